"""Variants of one run side by side: any choice against any other, over seeds, on every data set of the run.

A claim about a method needs several seeds and an interval over clusters of queries; this is where such
claims come from: methods against each other (``experiment=methods``), the parts of one (``ablation``), the
constants of a default (``constants``), growth with the fit set (``fit_size``).
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.figure import Figure

from niphash.data.images import ImageSet
from niphash.errors import InputError
from niphash.evaluation.evaluator import Report
from niphash.evaluation.intervals import bootstrap_interval, ratio_interval
from niphash.hashing.hasher import Hasher
from niphash.options import check_choice, check_numbers
from niphash.pipeline.fitting import FitSet, choose_fit_set
from niphash.pipeline.run import Run
from niphash.studies.curves import Dot, blank_figure, color, dots
from niphash.studies.hashed import check_counts, hashing_benches
from niphash.studies.measured import Difference, Fitted, check_names, label, prepare, selected
from niphash.studies.result import StudyResult

log = logging.getLogger(__name__)

Overrides = Mapping[str, Sequence[str]]
Redraw = Literal["hashing", "all"]
Key = tuple[str, int]  # a variant and the seed of its fitting


@dataclass(frozen=True)
class Outcome:
    """What one variant reached on one data set: values of each query, meant over the seeds.

    Attributes:
        values: float64 [Q], NaN for a query without relevant photos.
        clusters: int64 [Q], see :func:`niphash.evaluation.intervals.query_clusters`.
        by_seed: The mean of each seed.
        metric: What the values are of.
    """

    values: np.ndarray
    clusters: np.ndarray
    by_seed: tuple[float, ...]
    metric: str

    @classmethod
    def of(cls, reports: Sequence[Report], metric: str) -> "Outcome":
        """Join the reports of several seeds."""
        values = np.mean([report.per_query[metric] for report in reports], axis=0)
        return cls(values, reports[0].clusters, tuple(report.means[metric] for report in reports), metric)

    @property
    def mean(self) -> float:
        """Mean over queries and seeds."""
        return float(np.nanmean(self.values))

    @property
    def count(self) -> int:
        """Number of queries with relevant photos."""
        return int(np.isfinite(self.values).sum())

    @property
    def cluster_count(self) -> int:
        """Number of clusters of those queries."""
        return len(np.unique(self.clusters[np.isfinite(self.values)]))

    def interval(self, seed: int) -> tuple[float, float]:
        """Return the 95 % interval of the mean over clusters of queries."""
        counted = np.isfinite(self.values)
        low, high = bootstrap_interval(self.values[counted, None], self.clusters[counted], seed)[0]
        return float(low), float(high)

    def difference(self, reference: "Outcome", seed: int) -> Difference:
        """Return how much this is above ``reference``, query by query."""
        values = self.values - reference.values
        counted = np.isfinite(values)
        low, high = bootstrap_interval(values[counted, None], self.clusters[counted], seed)[0]
        return Difference(float(values[counted].mean()), float(low), float(high))

    def ratio(self, reference: "Outcome", seed: int) -> tuple[float, float, float]:
        """Return mean / mean of ``reference`` and its 95 % interval, paired by query."""
        counted = np.isfinite(self.values) & np.isfinite(reference.values)
        pair = self.values[counted, None], reference.values[counted, None]
        low, high = ratio_interval(*pair, self.clusters[counted], seed)[0]
        return float(pair[0].mean() / pair[1].mean()), float(low), float(high)


#: By data set, then variant: what the code (or, with ``hashing=none``, the float descriptor) reached.
Outcomes = dict[str, dict[str, Outcome]]


def variants(
    run: Run,
    variants: Overrides,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    reference: str | Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    metric: str | None = None,
    queries: int | None = None,
    redraw: Redraw = "hashing",
) -> StudyResult:
    """Measure variants of a run over several seeds, each beside a reference.

    Args:
        run: What all variants share; measured on all its data sets (``eval_data``).
        variants: Overrides of the command line by name; ``hashing=none`` measures the float descriptor.
        seeds: Seeds of fitting; a variant that draws nothing gives the same number for each.
        reference: The variant whose mean the others are divided by, the first by default; or several, and
            the first of those measured is drawn, while the table has all.
        only: Names of those of ``variants`` to measure; all by default.
        metric: Of the comparison; the metric of record of each data set by default.
        queries: So many queries at most, drawn at random.
        redraw: What a seed draws anew: the hashing method's own draws, or also the fit photos, their views
            and the descriptor, which are then described again for each seed.

    Raises:
        InputError: an override names nothing, a variant cannot be fitted, or an impossible value.
    """
    known, variants = variants, selected(dict(variants), only)
    references = _references(reference, known, variants)
    check_numbers("seeds", seeds, group="study", least=0, whole=True)
    outcomes = measure_variants(run, variants, seeds, metric, queries, redraw)
    rows = [
        {
            **_columns(data, name, outcome, run.seed),
            **_ratio_columns(outcome, against, at[against], run.seed),
        }
        for data, at in outcomes.items()
        for against in references
        for name, outcome in at.items()
    ]
    sentence = "; ".join(_sentence(data, at, references[0], run.seed) for data, at in outcomes.items())
    return StudyResult("variants", rows, _draw(outcomes, references[0], run.seed), f"{sentence}.")


def fit_size(
    run: Run,
    variants: Overrides,
    sizes: Sequence[int] = (500, 2000, 8000),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    only: Sequence[str] | None = None,
    metric: str | None = None,
    queries: int | None = None,
    redraw: Redraw = "hashing",
) -> StudyResult:
    """Measure variants of a run against the number of fit photos, with the same queries.

    Args:
        run: See :func:`variants`, as the other arguments.
        variants: See there.
        sizes: Numbers of fit photos.
        seeds: See there.
        only: See there.
        metric: See there.
        queries: See there.
        redraw: See there.

    Raises:
        InputError: as of :func:`variants`, or there are fewer fit photos than a size.
    """
    variants = selected(dict(variants), only)
    check_numbers("sizes", sizes, group="study", least=2, whole=True)
    found = {
        size: measure_variants(run.variant([f"fit.limit={size}"]), variants, seeds, metric, queries, redraw)
        for size in sorted(sizes)
    }
    rows = [
        {"fit_photos": size, **_columns(data, name, outcome, run.seed)}
        for size, outcomes in found.items()
        for data, at in outcomes.items()
        for name, outcome in at.items()
    ]
    parts = [
        f"{data}, {name}: " + ", ".join(f"{found[size][data][name].mean:.3f} ({size})" for size in found)
        for data in next(iter(found.values()))
        for name in variants
    ]
    sentence = f"Mean over {len(seeds)} seeds against fit photos: {'; '.join(parts)}."
    return StudyResult("fit_size", rows, _draw_growth(rows), sentence)


def measure_variants(
    run: Run,
    variants: Overrides,
    seeds: Sequence[int],
    metric: str | None,
    queries: int | None,
    redraw: Redraw = "hashing",
) -> Outcomes:
    """Return what each variant reached on each data set of ``run``.

    Variants that differ in hashing alone share their descriptors, those that differ in the distance alone
    their hashing as well. Fit photos are described for hashing methods only, and views of them for those that
    need pairs.

    Raises:
        InputError: an override names nothing, or a variant cannot be fitted.
    """
    check_choice("redraw", redraw, get_args(Redraw), group="study")
    runs = {
        (name, seed): _seeded(run.variant(overrides), seed, redraw)
        for name, overrides in variants.items()
        for seed in seeds
    }
    _check_all(runs.values())
    reports: dict[str, dict[str, list[Report]]] = {}
    for number, keys in enumerate(_groups(runs)):
        log.info("descriptor %d: %s", number + 1, ", ".join(f"{name}, seed {seed}" for name, seed in keys))
        hashed = any(runs[key].hasher.bits for key in keys)
        measure = _measure_codes if hashed else _measure_floats
        for (name, _), data, report in measure({key: runs[key] for key in keys}, queries):
            reports.setdefault(data, {}).setdefault(name, []).append(report)
    return {data: _outcomes(at, metric) for data, at in reports.items()}


def _measure_codes(runs: Mapping[Key, Run], queries: int | None) -> Iterator[tuple[Key, str, Report]]:
    """Yield run, data set and report of runs that share a descriptor; views are made if one needs pairs."""
    views = any(run.hasher.needs_pairs for run in runs.values())
    benches = hashing_benches(next(iter(runs.values())), views, queries)
    fitted: dict[str, Hasher] = {}
    for key, run in runs.items():
        hashing = json.dumps([run.option(part) for part in ("hashing", "trainer")], sort_keys=True)
        if run.hasher.bits and hashing not in fitted:
            owner = f"{key[0]}, {run.hasher.bits} bits, seed {key[1]}"
            fitted[hashing] = benches[0].fit_hasher(run.hasher, name=owner)
        hasher = fitted.get(hashing)
        for bench in benches:
            report = bench.float_report() if hasher is None else bench.report(hasher, run.distance)
            yield key, bench.name, report


def _measure_floats(runs: Mapping[Key, Run], queries: int | None) -> Iterator[tuple[Key, str, Report]]:
    """Yield the same of runs without hashing, for which no fit photo is described."""
    run = next(iter(runs.values()))
    benches = [prepare(replace(run, targets=(target,)), queries) for target in run.targets]
    describe = benches[0].fitted(run.describer)
    for bench in benches:
        read = _readable(describe, bench.task.queries, f"{bench.task.name}: none of the {{}} query photos")
        _readable(describe, bench.task.database, f"{bench.task.name}: none of the {{}} database photos")
        task = bench.task.with_queries(np.flatnonzero(read).tolist())
        report = bench.report(describe(task.queries), describe(task.database), task=task)
        for key in runs:
            yield key, bench.name, report


def _readable(describe: Fitted, images: ImageSet, none: str) -> np.ndarray:
    """Return which of ``images`` can be read, bool [N].

    Raises:
        InputError: none of them.
    """
    readable = describe.stored(images).positions >= 0
    if not readable.any():
        raise InputError(f"{none.format(len(readable))} can be read")
    return readable


def _seeded(run: Run, seed: int, redraw: Redraw) -> Run:
    """Return ``run`` with another seed of what is drawn anew; a method without draws has none."""
    if redraw == "all":
        return run.variant([f"seed={seed}"])
    return run.variant([f"hashing.seed={seed}"]) if "seed" in run.option("hashing") else run


def _check_all(runs: Iterable[Run]) -> None:
    """Refuse a variant that cannot be fitted, before any photo is described."""
    fit_sets: dict[str, FitSet] = {}
    for run in runs:
        data = run.targets[0].data
        key = json.dumps([run.option("data"), run.option("fit"), run.seed], sort_keys=True)
        if key not in fit_sets:
            data.prepare()
            fit_sets[key] = choose_fit_set(run.fit, data, run.data_set, run.seed)
        check_counts(run, fit_sets[key])


def _groups(runs: Mapping[Key, Run]) -> Iterable[list[Key]]:
    """Return the runs that share a descriptor and photos."""
    groups: dict[str, list[Key]] = {}
    for key, run in runs.items():
        shared = [run.option(part) for part in ("descriptor", "fit", "seed", "data", "distractors")]
        groups.setdefault(json.dumps(shared, sort_keys=True), []).append(key)
    return groups.values()


def _outcomes(reports: Mapping[str, list[Report]], metric: str | None) -> dict[str, Outcome]:
    known = next(iter(reports.values()))[0].means
    chosen = metric or ("ukb" if "ukb" in known else "mAP")
    if chosen not in known:
        raise InputError(f"study.metric={metric}: choose one of {', '.join(known)}")
    return {name: Outcome.of(found, chosen) for name, found in reports.items()}


def _columns(data: str, name: str, outcome: Outcome, seed: int) -> dict[str, Any]:
    low, high = outcome.interval(seed)
    return {
        "data": data,
        "variant": name,
        "metric": outcome.metric,
        "value": outcome.mean,
        "low": low,
        "high": high,
        "seeds": len(outcome.by_seed),
        "least_seed": min(outcome.by_seed),
        "greatest_seed": max(outcome.by_seed),
        "clusters": len(np.unique(outcome.clusters)),
    }


def _references(given: str | Sequence[str] | None, known: Overrides, measured: Overrides) -> list[str]:
    """Return the references that are measured; of several, those may be missing that ``only`` leaves out."""
    names = [given] if isinstance(given, str) else list(given or [next(iter(measured))])
    check_names("study.reference", names, known)
    references = [name for name in names if name in measured]
    check_names("study.reference", references or names, measured)
    return references


def _ratio_columns(outcome: Outcome, name: str, reference: Outcome, seed: int) -> dict[str, Any]:
    ratio, low, high = outcome.ratio(reference, seed)
    return {"against": name, "ratio": ratio, "ratio_low": low, "ratio_high": high}


def _sentence(data: str, at: Mapping[str, Outcome], reference: str, seed: int) -> str:
    parts = [f"{reference} {at[reference].mean:.3f}"]
    for name, outcome in at.items():
        if name != reference:
            ratio, low, high = outcome.ratio(at[reference], seed)
            parts.append(f"{name} {outcome.mean:.3f}, {ratio:.3f} [{low:.3f}, {high:.3f}] of that")
    first = at[reference]
    seeds = len(first.by_seed)
    counts = f"{first.count} queries, {first.cluster_count} clusters, {seeds} seed{'s' * (seeds > 1)}"
    return f"{data}, {label(first.metric)}, {counts}: {'; '.join(parts)}"


def _draw(outcomes: Outcomes, reference: str, seed: int) -> Figure:
    count = len(next(iter(outcomes.values())))
    figure = blank_figure(6 * len(outcomes), 1.5 + 0.3 * count)
    panels = figure.subplots(1, len(outcomes), squeeze=False)[0]
    for axes, (data, at) in zip(panels, outcomes.items(), strict=True):
        marks = [Dot(name, *outcome.ratio(at[reference], seed)) for name, outcome in at.items()]
        dots(axes, marks, f"mean over that of {reference}, 95 % intervals", "")
        axes.axvline(1, color="black", lw=1, ls=":")
        axes.set_title(f"{data}: {reference} {at[reference].mean:.3f}", fontsize=10)
    return figure


def _draw_growth(rows: Sequence[Mapping[str, Any]]) -> Figure:
    data_sets = list(dict.fromkeys(row["data"] for row in rows))
    figure = blank_figure(6 * len(data_sets), 4.5)
    panels = figure.subplots(1, len(data_sets), squeeze=False)[0]
    names = list(dict.fromkeys(row["variant"] for row in rows))
    for axes, data in zip(panels, data_sets, strict=True):
        for number, name in enumerate(names):
            own = [row for row in rows if row["data"] == data and row["variant"] == name]
            at = [row["fit_photos"] for row in own]
            axes.plot(at, [row["value"] for row in own], marker="o", ms=4, color=color(number), label=name)
            ends = ([row["low"] for row in own], [row["high"] for row in own])
            axes.fill_between(at, *ends, color=color(number), alpha=0.1, linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(at, [str(size) for size in at])
        axes.minorticks_off()
        axes.set(xlabel="fit photos")
        axes.set_title(data, fontsize=10)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"{rows[0]['metric']}, mean over seeds and queries; 95 % bands")
    panels[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
