"""How retrieval falls as the queries alone are changed more and more: what rotation and scale share."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from niphash.data.images import ImageSet, UnreadableImage, View
from niphash.data.pictures.views import FULL_SIDE, RotatedDisc, Scaled
from niphash.errors import InputError
from niphash.parallel import map_ahead
from niphash.pipeline.run import Run
from niphash.studies.curves import blank_figure, curves
from niphash.studies.measured import Bench, measured, prepare, selected
from niphash.studies.published_descriptors import published_descriptor
from niphash.studies.published_values import find_published
from niphash.studies.result import StudyResult


def curve_rows(
    bench: Bench,
    descriptors: Mapping[str, Sequence[str]],
    column: str,
    views: Mapping[float, View],
    database_view: View | None = None,
) -> list[dict[str, Any]]:
    """Return one row for each descriptor and each view of the queries, mAP with its 95 % interval.

    Args:
        bench: Task and fit photos.
        descriptors: Overrides of the configuration by name; ``views.pool_database`` may be among them.
        column: What the keys of ``views`` are, for instance ``"degrees"``.
        views: How the queries are seen.
        database_view: How the database images are seen (where they are not pooled over rotations).

    Raises:
        InputError: an override names nothing; found before any photo is described.
    """
    poolings = [bench.run.variant(overrides).targets[0].pooling for overrides in descriptors.values()]
    rows = []
    for (name, overrides), pooling in zip(descriptors.items(), poolings, strict=True):
        describe = bench.describer(overrides)
        if pooling is None:
            copies = [describe(bench.task.database.with_view(database_view))]
        else:
            copies = pooling.describe(bench.task.database, describe)
        for value, view in views.items():
            seen = replace(bench.task, queries=bench.task.queries.with_view(view))
            report = bench.report(describe(seen.queries), *copies, task=seen)
            rows.append({"descriptor": name, column: value, **measured(report, "mAP")})
    return rows


def kept(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[float, float, Mapping[str, Any]]:
    """Return a descriptor's first mAP, the least share of it that is left, and the row where that is."""
    own = [row for row in rows if row["descriptor"] == name]
    worst = min(own, key=lambda row: row["value"])
    first = own[0]["value"]
    return first, worst["value"] / first if first else float("nan"), worst


#: Of the published curves: mAP on INRIA Holidays.
PUBLISHED_ANGLES = (0, 10, 30, 90, 180)


def rotation(
    run: Run,
    descriptors: Mapping[str, Sequence[str]],
    step: float = 10.0,
    angles: Sequence[float] | None = None,
    queries: int | None = None,
    only: Sequence[str] | None = None,
    disc_database: bool = False,
    name: str = "rotation",
) -> StudyResult:
    """Measure mAP against the angle of the queries, which are cut to their central discs.

    Args:
        run: What is measured on what.
        descriptors: What is measured: overrides of ``cfg`` by name.
        step: Degrees between two angles of the full turn.
        angles: Angles in degrees, in place of ``step``; the first is what the others are compared with.
        queries: So many queries at most, drawn at random.
        only: Names of those of ``descriptors`` to measure; all by default.
        disc_database: Whether database images are cut to their discs too, so that the turn is all that
            differs; by default they stay whole, as ``views.rotate_query`` leaves them.
        name: Of the files that are written.

    Raises:
        InputError: an impossible value, or the data set is not there.
    """
    if angles is None:
        if not 0 < step <= 360:
            raise InputError(f"study.step={step}: give degrees above 0 and up to 360")
        angles = [step * i for i in range(int(-(-360 // step)))]
    if not angles:
        raise InputError("study.angles is empty; name angles in degrees, for instance [0,45,90]")
    chosen = selected(dict(descriptors), only)
    bench = prepare(run, queries)
    views = {float(angle): RotatedDisc(float(angle)) for angle in angles}
    rows = curve_rows(bench, chosen, "degrees", views, RotatedDisc(0.0) if disc_database else None)

    theirs = _published([published_descriptor(run.variant(overrides)) for overrides in chosen.values()])
    figure = _draw_rotation(bench, rows, theirs)
    return StudyResult(
        name,
        rows,
        figure,
        f"Over {len(views)} angles of the query, in degrees, on {bench.name}: "
        f"{_kept(rows, chosen, 'degrees')}.",
    )


Points = dict[str, list[tuple[float, float]]]


def _published(descriptors: Sequence[str | None]) -> Points:
    """Return the published points (degrees, mAP) of those of the descriptors that have some."""
    found: Points = {}
    for descriptor in dict.fromkeys(descriptors):
        points = [
            (float(angle), number.value)
            for angle in PUBLISHED_ANGLES
            for number in find_published(dataset=f"holidays_rotated_{angle}", descriptor=descriptor)
        ]
        if points:
            found[f"published, Holidays: {descriptor}"] = points
    return found


def _draw_rotation(bench: Bench, rows: Sequence[Mapping[str, Any]], theirs: Points) -> Figure:
    """Draw our curves; published ones among them on Holidays, else in a panel of their own."""
    apart = bool(theirs) and bench.published_as != "holidays"
    figure = blank_figure(18 if apart else 9, 5.5)
    panels = figure.subplots(1, 2 if apart else 1, squeeze=False)[0]
    curves(panels[0], rows, "degrees", None if apart else theirs)
    panels[0].set_title(f"{bench.name}: {len(bench.task.queries)} queries turned, 95 % bands", fontsize=11)
    if apart:
        curves(panels[1], [], "degrees", theirs)
        panels[1].set_title("published of another data set, Holidays", fontsize=11)
    for axes in panels:
        axes.set(xlabel="angle of the query (degrees)", ylabel="mean average precision", ylim=(0, 1.03))
        axes.set_xticks(range(0, int(max(180, *(row["degrees"] for row in rows))) + 1, 45))
    return figure


def _kept(rows: list[dict], names: Iterable[str], column: str) -> str:
    """Return, for a sentence, what each descriptor keeps of its mAP where it keeps least."""
    parts = []
    for name in names:
        first, share, worst = kept(rows, name)
        interval = f"{worst['value']:.3f} [{worst['low']:.3f}, {worst['high']:.3f}]"
        parts.append(
            f"{name} keeps {share:.3f} of its mAP of {first:.3f} (worst at {worst[column]:g}, {interval})"
        )
    return ", ".join(parts)


def scale(
    run: Run,
    descriptors: Mapping[str, Sequence[str]],
    ratios: Sequence[float] = (1.0, 0.75, 0.5, 0.375, 0.25, 0.2, 0.125),
    queries: int | None = None,
    only: Sequence[str] | None = None,
) -> StudyResult:
    """Measure mAP against the size of the queries, shrunk with anti-aliasing; the database stays as it is.

    Args:
        run: What is measured on what.
        descriptors: What is measured: overrides of ``cfg`` by name.
        ratios: Longer sides of the queries as parts of 640 pixels; the first is what the others are
            compared with.
        queries: So many queries at most, drawn at random.
        only: Names of those of ``descriptors`` to measure; all by default.

    Raises:
        InputError: an impossible value, or the data set is not there.
    """
    if not ratios or not all(0 < ratio <= 4 for ratio in ratios):
        raise InputError(f"study.ratios={list(ratios)}: name ratios above 0 and up to 4")
    chosen = selected(dict(descriptors), only)
    bench = prepare(run, queries)
    rows = curve_rows(bench, chosen, "ratio", {float(ratio): Scaled(float(ratio)) for ratio in ratios})

    figure = blank_figure(9, 5.5)
    axes = figure.add_subplot()
    curves(axes, rows, "ratio")
    axes.set_xscale("log")
    axes.set_xticks(list(ratios), [f"{ratio:g}\n{ratio * FULL_SIDE:.0f} px" for ratio in ratios], fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.invert_xaxis()
    axes.set_ylim(0, 1.03)
    axes.set(xlabel="size of the query (part of 640 pixels; longer side)", ylabel="mean average precision")
    axes.set_title(f"{bench.name}: {len(bench.task.queries)} queries shrunk, 95 % bands", fontsize=11)
    sentence = (
        f"Queries shrunk to {rows[-1]['ratio']:g} of 640 pixels at the least, on {bench.name}: "
        f"{_kept(rows, chosen, 'ratio')}{_enlarged(bench.task.queries, max(ratios))}."
    )
    return StudyResult("scale", rows, figure, sentence)


def _enlarged(images: ImageSet, ratio: float) -> str:
    """Return, for a sentence, how many of ``images`` a ratio does not shrink; ``""`` where there are none."""

    def side(row: int) -> float:
        try:
            return max(images.image(row).size)
        except UnreadableImage:
            return math.inf

    smaller = sum(found < ratio * FULL_SIDE for found in map_ahead(side, range(len(images))))
    if not smaller:
        return ""
    return f"; at {ratio:g}, {smaller} of {len(images)} queries are larger than the photos they are made of"
