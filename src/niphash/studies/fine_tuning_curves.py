"""Fine-tuning followed along its iterations: margins, triplets, and what they start from."""

from collections.abc import Mapping, Sequence
from typing import cast

from matplotlib.figure import Figure

from niphash.errors import InputError
from niphash.evaluation.evaluator import Report
from niphash.hashing.rbm.fine_tuning_stage import Snapshots
from niphash.hashing.rbm.network import Stack
from niphash.hashing.rbm.stack import RBMStack
from niphash.pipeline.run import Run
from niphash.studies.curves import (
    color,
    curve,
    draw,
    finish,
    float_line,
    one_panel,
    published_lines,
    published_numbers,
)
from niphash.studies.hashed import (
    HashingBench,
    check_published,
    chosen_metric,
    difference_columns,
    hashing_bench,
)
from niphash.studies.measured import label, measured, paired
from niphash.studies.result import StudyResult

#: What a study compares: a name, and the overrides that make it.
Variants = Mapping[str, Sequence[str]]


def margins(
    run: Run, every: int, metric: str | None, queries: int | None, published: Sequence[str]
) -> StudyResult:
    """Compare the dual with the single margin of Siamese fine-tuning (DeepHash, section 3.3).

    Args:
        run: With ``hashing=rbm_siamese``.
        every: Iterations between two points of the curve, a multiple of 100.
        metric: ``None`` for the metric of record of the data set.
        queries: At most so many queries; ``None`` for all.
        published: Descriptors whose published numbers are drawn.

    Raises:
        InputError: an option cannot be used, or there are no pairs.
    """
    variants = {"dual margin": ["hashing.loss=dual"], "single margin": ["hashing.loss=single"]}
    return along_training("margins", run, variants, every, metric, queries, published, views=True)


def triplets(
    run: Run, every: int, metric: str | None, queries: int | None, published: Sequence[str]
) -> StudyResult:
    """Compare threshold with uniform sampling of triplets (UTH, section 2.3).

    Arguments and errors as of :func:`margins`; ``run`` has ``hashing=rbm_triplet``.
    """
    variants = {
        "threshold sampling": ["hashing.sampling=threshold"],
        "uniform sampling": ["hashing.sampling=uniform"],
    }
    return along_training("triplets", run, variants, every, metric, queries, published)


def start(
    run: Run, every: int, metric: str | None, queries: int | None, published: Sequence[str]
) -> StudyResult:
    """Compare triplet fine-tuning of a trained stack with that of random weights (UTH, section 3).

    Arguments and errors as of :func:`margins`; ``run`` has ``hashing=rbm_triplet``.
    """
    variants = {"RBM start": ["hashing.start=rbm"], "random start": ["hashing.start=random"]}
    return along_training("start", run, variants, every, metric, queries, published)


def along_training(
    name: str,
    run: Run,
    variants: Variants,
    every: int,
    metric: str | None,
    queries: int | None,
    published: Sequence[str],
    views: bool = False,
) -> StudyResult:
    """Fine-tune each variant, measured every so many iterations; the first is compared with the second."""
    if every < 100 or every % 100:
        raise InputError(f"study.every={every}: give a multiple of 100 iterations")
    check_published(published)
    bench = hashing_bench(run, views, queries)
    reports = {variant: _follow(bench, overrides, every) for variant, overrides in variants.items()}
    metric = chosen_metric(metric, bench, next(iter(reports.values()))[0])
    rows = [
        {
            "variant": variant,
            "iterations": iterations,
            **measured(report, metric),
            **difference_columns(f"{variant}, 0 iterations", at[0], report, metric, run.seed),
        }
        for variant, at in reports.items()
        for iterations, report in at.items()
    ]
    return StudyResult(
        name, rows, _draw(bench, reports, metric, published), _sentence(bench, reports, metric)
    )


def _follow(bench: HashingBench, overrides: Sequence[str], every: int) -> dict[int, Report]:
    """Fit one variant; return its reports by iteration, before fine-tuning first."""
    reports: dict[int, Report] = {}

    def snapshot(iterations: int, stack: Stack) -> None:
        if iterations % every == 0:
            reports[iterations] = bench.report(_frozen(stack, bench, overrides))

    bench.fit(overrides, Snapshots(snapshot))
    return reports


def _frozen(stack: Stack, bench: HashingBench, overrides: Sequence[str]) -> RBMStack:
    """Return the hasher that fine-tuning would give if it ended with the weights that ``stack`` has now."""
    hasher = cast(RBMStack, bench.hasher(overrides))
    hasher.load_state_dict({key: value.detach().cpu().clone() for key, value in stack.state_dict().items()})
    if hasher.recenter_on != "off":
        hasher.recenter(bench.fit_rows(hasher))
    return hasher


def _draw(
    bench: HashingBench,
    reports: Mapping[str, Mapping[int, Report]],
    metric: str,
    published: Sequence[str],
) -> Figure:
    figure, axes = one_panel(10)
    exact = bench.float_report()
    draw(axes, [curve(variant, dict(at), metric) for variant, at in reports.items()])
    float_line(axes, exact, metric)
    colors = {"rbm_stack": "grey", **{variant: color(place) for place, variant in enumerate(reports)}}
    for name, hue in colors.items():
        numbers = published_numbers(bench.published_as, metric, name, published)
        published_lines(axes, numbers, bench.run.bits, hue)
    axes.set_xlabel("iterations of fine-tuning")
    of = f"{bench.run.option('bits')} bits, fitted on {len(bench.photos)} photos"
    finish(axes, metric, f"{' or '.join(reports)}?\n{bench.title}, {of}", outside=True)
    return figure


def _sentence(bench: HashingBench, reports: Mapping[str, Mapping[int, Report]], metric: str) -> str:
    seed = bench.run.seed
    parts = []
    for variant, at in reports.items():
        last = max(at)
        before, after = at[0], at[last]
        parts.append(
            f"{variant} {before.means[metric]:.3f} before and {after.means[metric]:.3f} after {last} "
            f"iterations, {paired(before, after, metric, seed)}"
        )
    one, other = reports
    ends = [at[max(at)] for at in reports.values()]
    return (
        f"{bench.name}, {bench.run.option('bits')} bits, {label(metric)}: {'; '.join(parts)}; "
        f"{one} less {other}: {paired(ends[1], ends[0], metric, seed)} ({bench.footnote})."
    )
