"""How small may the query be? (arXiv 1508.02496)"""

from collections.abc import Mapping, Sequence

from matplotlib.ticker import NullLocator
from omegaconf import DictConfig

from niphash.data.views import FULL_SIDE, Scaled
from niphash.errors import InputError
from niphash.studies.measured import prepare, selected
from niphash.studies.pictures import blank_figure, curves
from niphash.studies.result import StudyResult
from niphash.studies.robustness import curve_rows, kept


def scale(
    cfg: DictConfig,
    descriptors: Mapping[str, Sequence[str]],
    ratios: Sequence[float] = (1.0, 0.75, 0.5, 0.375, 0.25, 0.2, 0.125),
    queries: int | None = None,
    only: Sequence[str] | None = None,
) -> StudyResult:
    """Measure mAP against the size of the queries, shrunk with anti-aliasing; the database stays as it is.

    Args:
        cfg: A composed ``conf/train.yaml``.
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
    bench = prepare(cfg, queries)
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
    return StudyResult("scale", rows, figure, _sentence(rows, list(chosen), bench.name))


def _sentence(rows: list[dict], names: list[str], data: str) -> str:
    parts = []
    for name in names:
        first, share, worst = kept(rows, name)
        parts.append(f"{name} keeps {share:.3f} of its mAP of {first:.3f} (worst at {worst['ratio']:g})")
    return (
        f"Queries shrunk to {rows[-1]['ratio']:g} of 640 pixels at the least, on {data}: {', '.join(parts)}."
    )
