"""Pictures of the hashing studies: measured curves with their intervals, published ones beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from niphash.evaluation.evaluator import Report
from niphash.studies.measured import label
from niphash.studies.published_values import Published, find_published

#: Hashing choices and regularisers that the papers do not call as we do, see :func:`paper_names`. The RBM
#: that 1603.04595 sets beside RBMH has Hinton's sparsity term; none is published without any.
PAPER_NAMES: Mapping[str, tuple[str, ...]] = {
    "sparsity": ("rbm",),
    "rbmh": ("rbmh",),
    "rbm": ("rbmh",),
    "rbm_stack": ("rbm_stack", "deephash"),
    "rbm_siamese": ("deephash+",),
    "rbm_triplet": ("uth",),
    "spectral": ("sh",),
    "float": ("uncompressed",),
}

#: How published numbers look: never to be taken for ours.
PUBLISHED: dict[str, Any] = {"color": "0.45", "markerfacecolor": "white", "zorder": 3}

#: Of measured curves, and of published ones.
MARKERS, PUBLISHED_MARKERS = "os^Dvp*Xh", "sD^v<>Ph"


@dataclass(frozen=True)
class Curve:
    """Points (x, mean) of one label, with the ends of their intervals; published ones have dashes instead."""

    label: str
    x: Sequence[float]
    mean: Sequence[float]
    ends: Sequence[tuple[float, float]] = ()
    dashes: Any = "-"


def curve(label: str, reports: Mapping[int, Report], metric: str) -> Curve:
    """Return the curve of ``reports`` keyed by x."""
    means = [report.means[metric] for report in reports.values()]
    return Curve(label, list(reports), means, [report.intervals[metric] for report in reports.values()])


def paper_names(method: str) -> tuple[str, ...]:
    """Return what the papers call a hashing choice or a regulariser of ours."""
    return PAPER_NAMES.get(method, (method,))


def published_numbers(
    dataset: str, metric: str, methods: Sequence[str], descriptors: Sequence[str]
) -> list[Published]:
    """Return the published numbers of ``methods``, named as in the papers, on any of ``descriptors``."""
    found = (find_published(dataset=dataset, metric=metric, method=name) for name in methods)
    return [number for numbers in found for number in numbers if number.descriptor in descriptors]


def published_curves(
    dataset: str, metric: str, methods: Sequence[str], descriptors: Sequence[str]
) -> list[Curve]:
    """Return the published curves against bits of :func:`published_numbers`, one a descriptor and method.

    A descriptor has the same dashes whatever the method.
    """
    curves: dict[str, list[Published]] = {}
    for number in published_numbers(dataset, metric, methods, descriptors):
        if number.bits is not None:
            curves.setdefault(_said(number), []).append(number)
    return [
        Curve(
            name,
            [n.bits or 0 for n in numbers],
            [n.value for n in numbers],
            dashes=dashes(list(descriptors).index(numbers[0].descriptor)),
        )
        for name, numbers in curves.items()
    ]


def published_lines(axes: Axes, numbers: Sequence[Published], bits: int, color: Any) -> None:
    """Draw the published numbers of codes of ``bits`` across, for curves whose x is no code length."""
    of_length = [number for number in numbers if number.bits == bits]
    for place, number in enumerate(of_length):
        said = f"{_said(number)}, {number.value:.3f}"
        axes.axhline(number.value, color=color, ls=dashes(place), lw=1, label=said)


def published_elsewhere(axes: Axes, numbers: Sequence[Published], metric: str) -> None:
    """Draw numbers of another data set than the tested one, by themselves: one bar each, from the top."""
    values = [number.value for number in numbers]
    bars = axes.barh(range(len(numbers)), values, color="0.85", edgecolor=PUBLISHED["color"], ls="--")
    axes.bar_label(bars, [f"{value:.3f}" for value in values], padding=3, fontsize=9)
    axes.set_yticks(range(len(numbers)), [number.method for number in numbers], fontsize=9)
    axes.set_ylim(len(numbers) - 0.5, -0.5)
    axes.set_xlim(0, 1.2 * max(values))
    axes.set(xlabel=label(metric), ylabel="method, as the paper names it")
    first = numbers[0]
    where = f"{first.paper}, {first.descriptor}, {first.bits} bits"
    axes.set_title(f"published of another data set ({first.dataset})\n{where}", fontsize=10)


def dashes(place: int) -> Any:
    """Return the style of the published line of that place."""
    return ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))[place % 4]


def _said(number: Published) -> str:
    return f"{number.method}, published ({number.paper}, {number.descriptor})"


def draw(axes: Axes, measured: Sequence[Curve], published: Sequence[Sequence[Curve]] = ()) -> None:
    """Draw each measured curve with bars for its intervals, and its published ones in the same colour.

    Args:
        axes: Where.
        measured: One colour each.
        published: Those of each measured curve, in the same order; dashed, with open markers.
    """
    for number, line in enumerate(measured):
        below = [mean - low for mean, (low, _) in zip(line.mean, line.ends, strict=True)]
        above = [high - mean for mean, (_, high) in zip(line.mean, line.ends, strict=True)]
        axes.errorbar(line.x, line.mean, [below, above], label=line.label, capsize=3, **_style(number))
    for number, papers in enumerate(published):
        for paper in papers:
            style = _style(number) | {"ls": paper.dashes, "lw": 1, "mfc": "none"}
            axes.plot(paper.x, paper.mean, label=paper.label, **style)


def _style(number: int) -> dict[str, Any]:
    """Return colour and marker of the curve ``number``; together they tell 180 curves apart."""
    return {"color": color(number), "marker": MARKERS[number % len(MARKERS)], "ms": 5}


def color(number: int) -> Any:
    """Return the colour of the curve ``number``: ten strong ones, then ten light ones."""
    return colormaps["tab20"](2 * (number % 10) + number // 10 % 2)


def draw_against_bits(
    axes: Axes, measured: Sequence[Curve], published: Sequence[Sequence[Curve]] = ()
) -> None:
    """Draw curves whose x is the code length, see :func:`draw`, on a logarithmic axis.

    Measured curves stand slightly beside each other, so that no interval hides another.
    """
    step = min(0.04, 0.4 / len(measured))  # in octaves
    shifts = [step * (place - (len(measured) - 1) / 2) for place in range(len(measured))]
    dodged = [
        replace(line, x=[length * 2**shift for length in line.x])
        for line, shift in zip(measured, shifts, strict=True)
    ]
    draw(axes, dodged, published)
    lengths = sorted({length for line in chain(measured, *published) for length in line.x})
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.minorticks_off()
    axes.set_xlabel("code length [bits]")


def finish(axes: Axes, metric: str, title: str, outside: bool = False) -> None:
    """Name the y axis, add grid, title and legend (beside the axes if ``outside``), measured curves first."""
    axes.set_ylabel(f"{label(metric)} (0 to {4 if metric == 'ukb' else 1}), 95 % intervals")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    entries = sorted(
        zip(*axes.get_legend_handles_labels(), strict=True), key=lambda entry: "published" in entry[1]
    )
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if outside else {}
    axes.legend(*zip(*entries, strict=True), fontsize=7, **place)


def one_panel(width: float = 7.5) -> tuple[Figure, Axes]:
    """Return a figure with one set of axes."""
    figure = Figure(figsize=(width, 5), layout="constrained")
    return figure, figure.add_subplot()


def two_panels() -> tuple[Figure, Axes, Axes]:
    """Return a figure with two sets of axes side by side."""
    figure = Figure(figsize=(14, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    return figure, left, right


def float_line(axes: Axes, exact: Report, metric: str) -> None:
    """Draw the mean of the float descriptor across, and its interval as a band."""
    mean = exact.means[metric]
    axes.axhline(mean, color="black", ls=":", lw=1.5, label=f"float descriptor, {mean:.3f}")
    axes.axhspan(*exact.intervals[metric], color="black", alpha=0.08, linewidth=0)


class Dot(NamedTuple):
    """One measured mean with its 95 % interval, and the published value where there is one."""

    label: str
    value: float
    low: float
    high: float
    published: float | None = None


def curves(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    x: str,
    published: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> None:
    """Draw ``value`` against ``x``, a line with its 95 % band for each ``descriptor`` of ``rows``.

    Args:
        axes: Where to draw.
        rows: Rows of a study, with the columns of :func:`niphash.studies.measured.measured`.
        x: Name of the column along the axis.
        published: (x, value) points by name, drawn grey and dashed.
    """
    for name in dict.fromkeys(row["descriptor"] for row in rows):
        own = [row for row in rows if row["descriptor"] == name]
        at = [row[x] for row in own]
        (line,) = axes.plot(at, [row["value"] for row in own], marker=".", label=name)
        low, high = ([row[end] for row in own] for end in ("low", "high"))
        axes.fill_between(at, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    for (name, points), marker in zip((published or {}).items(), PUBLISHED_MARKERS, strict=False):
        axes.plot(*zip(*points, strict=True), marker=marker, linestyle=":", label=name, **PUBLISHED)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def dots(axes: Axes, marks: Sequence[Dot], xlabel: str, published: str) -> None:
    """Draw one line a mark, from the top: the mean, its 95 % interval, the published value as a diamond.

    Args:
        axes: Where to draw.
        marks: What to draw.
        xlabel: Name of the quantity.
        published: Name of the published numbers, for the legend.
    """
    at = range(len(marks))
    errors = [[m.value - m.low for m in marks], [m.high - m.value for m in marks]]
    axes.errorbar([m.value for m in marks], at, xerr=errors, fmt="o", capsize=3, label="ours, 95 % interval")
    theirs = [(m.published, i) for i, m in enumerate(marks) if m.published is not None]
    if theirs:
        axes.plot(*zip(*theirs, strict=True), "D", label=published, **PUBLISHED)
        axes.legend(fontsize=8)
    axes.set_yticks(at, [m.label for m in marks], fontsize=9)
    axes.set_ylim(len(marks) - 0.5, -0.5)
    axes.set_xlabel(xlabel)
    axes.grid(axis="x", alpha=0.3)


def blank_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches."""
    return Figure(figsize=(width, height), layout="constrained")
