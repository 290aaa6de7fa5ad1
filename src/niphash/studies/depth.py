"""How many layers a stack should have, without and with the regulariser."""

from collections.abc import Sequence

from niphash.errors import InputError
from niphash.evaluation.evaluator import Report
from niphash.pipeline.run import Run
from niphash.studies.curves import curve, draw, finish, one_panel
from niphash.studies.hashed import (
    HashingBench,
    check_rbm,
    check_regularizers,
    chosen_metric,
    difference_columns,
    hashing_bench,
)
from niphash.studies.measured import label, measured, paired
from niphash.studies.regularizer import NAMES
from niphash.studies.result import StudyResult


def depth(
    run: Run,
    depths: Sequence[int],
    regularizers: Sequence[str],
    metric: str | None,
    queries: int | None,
) -> StudyResult:
    """Train stacks of ``bits`` with one to several layers (DeepHash, section 4.1).

    Args:
        run: Its ``hashing`` is a stack.
        depths: Numbers of layers; the first is what the others are compared with.
        regularizers: One curve each.
        metric: ``None`` for the metric of record of the data set.
        queries: At most so many queries; ``None`` for all.

    Raises:
        InputError: an option cannot be used, or the descriptor is shorter than the code.
    """
    if not depths or min(depths) < 1:
        raise InputError(f"study.depths={list(depths)}: give numbers of layers from 1 on")
    check_rbm(run)
    check_regularizers(regularizers)
    bench = hashing_bench(run, views=False, queries=queries)
    bits, dim = run.bits, bench.photos.shape[1]
    sizes = {layers: layer_sizes(dim, bits, layers) for layers in depths}
    reports: dict[str, dict[int, Report]] = {name: {} for name in regularizers}
    for name, at in reports.items():
        for layers in depths:
            overrides = [f"hashing.regularizer={name}", f"hashing.layers={sizes[layers]}"]
            at[layers] = bench.report(bench.fit(overrides))
    metric = chosen_metric(metric, bench, reports[regularizers[0]][depths[0]])
    rows = [
        {
            "regularizer": name,
            "layers": layers,
            "sizes": "-".join(map(str, [dim, *sizes[layers]])),
            **measured(report, metric),
            **difference_columns(f"{name}, {depths[0]} layers", at[depths[0]], report, metric, run.seed),
        }
        for name, at in reports.items()
        for layers, report in at.items()
    ]
    figure, axes = one_panel()
    draw(axes, [curve(NAMES.get(name, name), at, metric) for name, at in reports.items()])
    axes.set_xticks(list(depths))
    axes.set_xlabel(f"number of layers, from {dim} dimensions to {bits} bits")
    finish(axes, metric, f"{bench.title}: depth of the stack, {bits} bits")
    return StudyResult("depth", rows, figure, _sentence(bench, reports, metric))


def layer_sizes(dim: int, bits: int, layers: int) -> list[int]:
    """Return the hidden sizes of ``layers`` layers that shrink by one factor, from ``dim`` to ``bits``."""
    return [round(dim * (bits / dim) ** (layer / layers)) for layer in range(1, layers + 1)]


def _sentence(bench: HashingBench, reports: dict[str, dict[int, Report]], metric: str) -> str:
    parts = []
    for name, at in reports.items():
        best = max(at, key=lambda layers: at[layers].means[metric])
        one = next(iter(at))
        gain = paired(at[one], at[best], metric, bench.run.seed)
        over = "" if best == one else f", {gain} above {one} ({at[one].means[metric]:.3f})"
        values = ", ".join(f"{report.means[metric]:.3f}" for report in at.values())
        parts.append(f"{NAMES.get(name, name)} {values}, best with {best}{over}")
    depths = ", ".join(map(str, next(iter(reports.values()))))
    what = f"{bench.name}, {bench.run.option('bits')} bits, {label(metric)} with {depths} layers"
    return f"{what}: {'; '.join(parts)} ({bench.footnote})."
