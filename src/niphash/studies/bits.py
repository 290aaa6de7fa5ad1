"""Every hashing method against the code length, and what a code of one length loses against the float."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from omegaconf import DictConfig

from niphash.errors import InputError
from niphash.evaluation.evaluator import Report
from niphash.studies.curves import (
    bits_axis,
    curve,
    draw,
    finish,
    float_line,
    one_panel,
    published_curves,
    published_numbers,
)
from niphash.studies.hashed import (
    HashingBench,
    chosen_metric,
    code_lengths,
    difference_columns,
    hashing_bench,
)
from niphash.studies.measured import label, measured, paired
from niphash.studies.result import StudyResult


def bits(
    cfg: DictConfig,
    methods: Sequence[str],
    bits: Sequence[int],
    metric: str | None,
    queries: int | None,
    published: Sequence[str],
) -> StudyResult:
    """Fit every method at every code length on the same descriptors.

    Args:
        cfg: A composed ``conf/train.yaml``; its own ``hashing`` is not used.
        methods: Choices of ``conf/hashing``; the first is what the others are compared with.
        bits: Code lengths; those that a method cannot make are left out.
        metric: ``None`` for the metric of record of the data set.
        queries: At most so many queries; ``None`` for all.
        published: Descriptors whose published numbers are drawn.

    Raises:
        InputError: an option cannot be used, or no method can make any of the codes.
    """
    bench = hashing_bench(cfg, queries=queries)
    exact = bench.float_report()
    metric = chosen_metric(metric, bench, exact)
    reports = _fit_all(bench, methods, code_lengths(bits))
    base = reports[next(iter(reports))]
    seed = int(cfg.seed)
    rows = [
        {
            "method": name,
            "bits": length,
            **measured(report, metric),
            "of_float": report.means[metric] / exact.means[metric],
            **difference_columns(base.get(length, report), report, metric, seed),
        }
        for name, at in reports.items()
        for length, report in at.items()
    ]
    figure, axes = one_panel(9.5)
    draw(
        axes,
        [curve(name, at, metric) for name, at in reports.items()],
        [published_curves(bench.name, metric, name, published) for name in reports],
    )
    bits_axis(axes)
    float_line(axes, exact, metric)
    finish(axes, metric, f"{bench.title}: hashing methods against code length", outside=True)
    shown = min(base, key=lambda length: abs(length - int(cfg.bits)))
    return StudyResult("bits", rows, figure, _ranked(bench, reports, exact, shown, metric))


def _fit_all(
    bench: HashingBench, methods: Sequence[str], lengths: Sequence[int]
) -> dict[str, dict[int, Report]]:
    """Return the reports of every method by code length, without what cannot be made.

    Raises:
        InputError: nothing can.
    """
    reports: dict[str, dict[int, Report]] = {}
    for name in methods:
        fits = {length: bench.try_fit([f"hashing={name}", f"bits={length}"]) for length in lengths}
        at = {length: fitted[1] for length, fitted in fits.items() if fitted is not None}
        if at:
            reports[name] = at
    if not reports:
        raise InputError(f"study.bits={list(lengths)}: none of {', '.join(methods)} can make such a code")
    return reports


def _ranked(
    bench: HashingBench, reports: dict[str, dict[int, Report]], exact: Report, length: int, metric: str
) -> str:
    at = {name: by_bits[length] for name, by_bits in reports.items() if length in by_bits}
    order = sorted(at, key=lambda name: -at[name].means[metric])
    said = f"{bench.name}, {length} bits, {label(metric)}: " + ", ".join(
        f"{name} {at[name].means[metric]:.3f}" for name in order
    )
    first = next(iter(reports))
    best = order[0] if order[0] != first or len(order) == 1 else order[1]
    gain = paired(at[first], at[best], metric, int(bench.cfg.seed))
    against = "" if best == first else f"; {best} less {first}: {gain}"
    return f"{said}; float descriptor {exact.means[metric]:.3f}{against} ({bench.footnote})."


def float_loss(
    cfg: DictConfig,
    methods: Sequence[str],
    metric: str | None,
    queries: int | None,
    published: Sequence[str],
) -> StudyResult:
    """Compare codes of ``cfg.bits`` (256 in the experiment) with the float descriptor, query by query.

    Args and errors as of :func:`bits`.
    """
    bench = hashing_bench(cfg, queries=queries)
    exact = bench.float_report()
    metric = chosen_metric(metric, bench, exact)
    length = int(cfg.bits)
    reports = {name: at[length] for name, at in _fit_all(bench, methods, [length]).items()}
    float_row = {"method": "float", "bits": 32 * bench.photos.shape[1]}
    labelled = [(float_row, exact)] + [({"method": n, "bits": length}, r) for n, r in reports.items()]
    rows = [
        {
            **labels,
            **measured(report, metric),
            "of_float": report.means[metric] / exact.means[metric],
            **difference_columns(exact, report, metric, int(cfg.seed)),
        }
        for labels, report in labelled
    ]
    best = max(reports, key=lambda name: reports[name].means[metric])
    sentence = (
        f"{bench.name}, {label(metric)}: the best code of {length} bits, {best}, keeps "
        f"{reports[best].means[metric] / exact.means[metric]:.1%} of the float descriptor "
        f"({reports[best].means[metric]:.3f} of {exact.means[metric]:.3f}, "
        f"{paired(exact, reports[best], metric, int(cfg.seed))}) "
        f"in 1/{float_row['bits'] / length:.0f} of its bits ({bench.footnote})."
    )
    return StudyResult("float_loss", rows, _draw_loss(bench, reports, exact, metric, published), sentence)


def _draw_loss(
    bench: HashingBench,
    reports: dict[str, Report],
    exact: Report,
    metric: str,
    published: Sequence[str],
) -> Figure:
    """Draw one line a method: its mean and interval, published values beside it, the float across."""
    figure, axes = one_panel(8.5)
    order = sorted(reports, key=lambda name: reports[name].means[metric])
    for place, name in enumerate(order):
        mean, (low, high) = reports[name].means[metric], reports[name].intervals[metric]
        axes.errorbar(mean, place, xerr=[[mean - low], [high - mean]], color="C0", marker="o", capsize=4)
        for number in published_numbers(bench.name, metric, name, published):
            if number.bits == bench.cfg.bits:
                axes.plot(number.value, place, color="C1", marker="D", mfc="none", ls="")
    mean = exact.means[metric]
    axes.axvline(mean, color="black", ls=":", label=f"float descriptor, {mean:.3f}")
    axes.axvspan(*exact.intervals[metric], color="black", alpha=0.08, linewidth=0)
    for number in published_numbers(bench.name, metric, "float", published):
        said = f"float, published ({number.paper}, {number.descriptor})"
        axes.axvline(number.value, color="C1", ls="--", lw=1, label=said)
    axes.plot([], [], color="C0", marker="o", label="measured, 95 % interval")
    axes.plot(
        [],
        [],
        color="C1",
        marker="D",
        mfc="none",
        ls="",
        label="published on the whole data set, same method and bits",
    )
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel(f"{label(metric)} (0 to {4 if metric == 'ukb' else 1})")
    axes.set_ylabel("hashing method")
    axes.set_title(f"{bench.title}: codes of {bench.cfg.bits} bits beside the float descriptor", fontsize=10)
    axes.grid(alpha=0.3, axis="x")
    axes.legend(fontsize=7)
    return figure
