"""Every hashing method against the code length, and what a code of one length loses against the float."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from niphash.errors import InputError
from niphash.evaluation.evaluator import Report
from niphash.pipeline.run import Run
from niphash.studies.curves import (
    curve,
    draw_against_bits,
    finish,
    float_line,
    one_panel,
    paper_names,
    published_curves,
    published_numbers,
)
from niphash.studies.hashed import (
    Compared,
    HashingBench,
    check_published,
    chosen_metric,
    code_lengths,
    compared_methods,
    difference_columns,
    hashing_bench,
)
from niphash.studies.measured import label, measured, paired
from niphash.studies.result import StudyResult

PUBLISHED_MARK: dict[str, Any] = {"color": "C1", "marker": "D", "mfc": "none", "ls": ""}


def bits(
    run: Run,
    methods: Sequence[str],
    bits: Sequence[int],
    metric: str | None,
    queries: int | None,
    published: Sequence[str],
) -> StudyResult:
    """Fit every method at every code length on the same descriptors.

    Args:
        run: The data set and the descriptor; its own ``hashing`` is not used.
        methods: Choices of ``conf/hashing``, with the distance of their codes where it is not ``distance``
            (``"itq+asymmetric"``); the first is what the others are compared with.
        bits: Code lengths; those that a method cannot make are left out.
        metric: ``None`` for the metric of record of the data set.
        queries: At most so many queries; ``None`` for all.
        published: Descriptors whose published numbers are drawn.

    Raises:
        InputError: an option cannot be used, or no method can make any of the codes.
    """
    compared, lengths = compared_methods(run, methods), code_lengths(bits)
    check_published(published)
    bench = hashing_bench(run, _need_pairs(run, compared), queries)
    exact = bench.float_report()
    metric = chosen_metric(metric, bench, exact)
    reports = _fit_all(bench, compared, lengths)
    first = compared[0]
    base = reports.get(first, {})
    rows = [
        {
            **one._asdict(),
            "bits": length,
            **measured(report, metric),
            "of_float": report.means[metric] / exact.means[metric],
            **difference_columns(f"{first}, {length} bits", base.get(length), report, metric, run.seed),
        }
        for one, at in reports.items()
        for length, report in at.items()
    ]
    figure, axes = one_panel(9.5)
    draw_against_bits(
        axes,
        [curve(str(one), at, metric) for one, at in reports.items()],
        [published_curves(bench.published_as, metric, _in_papers(one), published) for one in reports],
    )
    float_line(axes, exact, metric)
    finish(axes, metric, f"{bench.title}: hashing methods against code length", outside=True)
    made = base or next(iter(reports.values()))
    shown = min(made, key=lambda length: abs(length - run.bits))
    at = {one: by_bits[shown] for one, by_bits in reports.items() if shown in by_bits}
    return StudyResult("bits", rows, figure, _ranked(bench, first, at, exact, shown, metric))


def _need_pairs(run: Run, compared: Sequence[Compared]) -> bool:
    """Tell whether one of the methods learns from pairs; else no views of the fit photos are described."""
    return any(run.variant([f"hashing={one.method}"]).hasher.needs_pairs for one in compared)


def _fit_all(
    bench: HashingBench, compared: Sequence[Compared], lengths: Sequence[int]
) -> dict[Compared, dict[int, Report]]:
    """Return the reports of every method by code length, without what cannot be made.

    Raises:
        InputError: nothing can.
    """
    reports: dict[Compared, dict[int, Report]] = {one: {} for one in compared}
    methods = list(dict.fromkeys(one.method for one in compared))
    for method in methods:
        for length in lengths:
            hasher = bench.try_fit([f"hashing={method}", f"bits={length}"])
            if hasher is not None:  # one fit, whatever the distances
                for one in compared:
                    if one.method == method:
                        reports[one][length] = bench.report(hasher, one.distance)
    if not any(reports.values()):
        raise InputError(f"study.bits={list(lengths)}: none of {', '.join(methods)} can make such a code")
    return {one: at for one, at in reports.items() if at}


def _in_papers(one: Compared) -> tuple[str, ...]:
    """Return what published numbers are found by: papers compare codes of signs by Hamming distance."""
    return paper_names(one.method) if one.distance == "hamming" or one.method == "pq" else ()


def _ranked(
    bench: HashingBench,
    first: Compared,
    at: Mapping[Compared, Report],
    exact: Report,
    length: int,
    metric: str,
) -> str:
    order = sorted(at, key=lambda one: -at[one].means[metric])
    said = f"{bench.name}, {length} bits, {label(metric)}: " + ", ".join(
        f"{one} {at[one].means[metric]:.3f}" for one in order
    )
    against = ""
    others = [one for one in order if one != first]
    if first in at and others:
        gain = paired(at[first], at[others[0]], metric, bench.run.seed)
        against = f"; {others[0]} less {first}: {gain}"
    return f"{said}; float descriptor {exact.means[metric]:.3f}{against} ({bench.footnote})."


def float_loss(
    run: Run,
    methods: Sequence[str],
    metric: str | None,
    queries: int | None,
    published: Sequence[str],
) -> StudyResult:
    """Compare codes of ``bits`` (256 in the experiment) with the float descriptor, query by query.

    Args and errors as of :func:`bits`.
    """
    compared = compared_methods(run, methods)
    check_published(published)
    bench = hashing_bench(run, _need_pairs(run, compared), queries)
    exact = bench.float_report()
    metric = chosen_metric(metric, bench, exact)
    length, float_bits = run.bits, 32 * bench.photos.shape[1]
    reports = {one: at[length] for one, at in _fit_all(bench, compared, [length]).items()}
    float_row = {"method": "float", "distance": "cosine", "bits": float_bits}
    labelled = [(float_row, exact)] + [({**one._asdict(), "bits": length}, r) for one, r in reports.items()]
    rows = [
        {
            **labels,
            **measured(report, metric),
            "of_float": report.means[metric] / exact.means[metric],
            **difference_columns("float descriptor", exact, report, metric, run.seed),
        }
        for labels, report in labelled
    ]
    best = max(reports, key=lambda one: reports[one].means[metric])
    sentence = (
        f"{bench.name}, {label(metric)}: the best code of {length} bits, {best}, keeps "
        f"{reports[best].means[metric] / exact.means[metric]:.1%} of the float descriptor "
        f"({reports[best].means[metric]:.3f} of {exact.means[metric]:.3f}, "
        f"{paired(exact, reports[best], metric, run.seed)}) "
        f"in 1/{float_bits / length:.0f} of its bits ({bench.footnote})."
    )
    return StudyResult("float_loss", rows, _draw_loss(bench, reports, exact, metric, published), sentence)


def _draw_loss(
    bench: HashingBench,
    reports: Mapping[Compared, Report],
    exact: Report,
    metric: str,
    published: Sequence[str],
) -> Figure:
    """Draw one line a method: its mean and interval, published values beside it, the float across."""
    figure, axes = one_panel(10.5)
    order = sorted(reports, key=lambda one: reports[one].means[metric])
    theirs = {
        one: [
            number.value
            for number in published_numbers(bench.published_as, metric, _in_papers(one), published)
            if number.bits == bench.run.bits
        ]
        for one in order
    }
    for place, one in enumerate(order):
        mean, (low, high) = reports[one].means[metric], reports[one].intervals[metric]
        axes.errorbar(mean, place, xerr=[[mean - low], [high - mean]], color="C0", marker="o", capsize=4)
        axes.plot(theirs[one], [place] * len(theirs[one]), **PUBLISHED_MARK)
    mean = exact.means[metric]
    axes.axvline(mean, color="black", ls=":", label=f"float descriptor, {mean:.3f}")
    axes.axvspan(*exact.intervals[metric], color="black", alpha=0.08, linewidth=0)
    for number in published_numbers(bench.published_as, metric, paper_names("float"), published):
        said = f"float, published ({number.paper}, {number.descriptor})"
        axes.axvline(number.value, color="C1", ls="--", lw=1, label=said)
    axes.plot([], [], color="C0", marker="o", label="measured, 95 % interval")
    if any(theirs.values()):
        axes.plot([], [], label="published on the whole data set, same method and bits", **PUBLISHED_MARK)
    axes.set_yticks(range(len(order)), map(str, order))
    axes.set_xlabel(f"{label(metric)} (0 to {4 if metric == 'ukb' else 1})")
    axes.set_ylabel("hashing method (distance of codes)")
    axes.set_title(
        f"{bench.title}: codes of {bench.run.option('bits')} bits beside the float descriptor", fontsize=10
    )
    axes.grid(alpha=0.3, axis="x")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
