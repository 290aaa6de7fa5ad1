"""Where should local descriptors be taken: at corners and blobs, on a grid, or both? (arXiv 1508.02496)"""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from niphash.pipeline.run import Run
from niphash.studies.curves import Dot, blank_figure, dots
from niphash.studies.measured import Difference, check_names, label, selected
from niphash.studies.published_descriptors import published_descriptor
from niphash.studies.published_values import find_published, published_name
from niphash.studies.result import StudyResult
from niphash.studies.variants import Outcomes, Overrides, measure_variants


def interest_points(
    run: Run,
    descriptors: Overrides,
    reference: str | None = None,
    only: Sequence[str] | None = None,
    metric: str | None = None,
    queries: int | None = None,
) -> StudyResult:
    """Measure Fisher vectors of several interest points on each data set of the run, paired by query.

    Args:
        run: What all share; measured on all its data sets (``eval_data``).
        descriptors: Overrides of the command line by name.
        reference: The one that the others are compared with; the first by default.
        only: Names of those of ``descriptors`` to measure; all by default.
        metric: ``None`` for the metric of record of each data set.
        queries: So many queries of a data set at most, drawn at random.

    Raises:
        InputError: an override names nothing, an impossible value, or a data set is not there.
    """
    chosen = selected(dict(descriptors), only)
    reference = next(iter(chosen)) if reference is None else reference
    check_names("study.reference", [reference], chosen)
    floats = {name: [*overrides, "hashing=none"] for name, overrides in chosen.items()}
    papers = {name: published_descriptor(run.variant(overrides)) for name, overrides in chosen.items()}
    outcomes = measure_variants(run, floats, [run.seed], metric, queries)
    rows: list[dict[str, Any]] = []
    for data, at in outcomes.items():
        for name, outcome in at.items():
            low, high = outcome.interval(run.seed)
            difference = outcome.difference(at[reference], run.seed)
            columns = ("difference", "difference_low", "difference_high")
            rows.append(
                {
                    "data": data,
                    "descriptor": name,
                    "metric": outcome.metric,
                    "value": outcome.mean,
                    "low": low,
                    "high": high,
                    "queries": outcome.count,
                    "clusters": outcome.cluster_count,
                    "against": reference,
                    **dict(zip(columns, difference, strict=True)),
                    "published": _published(data, outcome.metric, papers[name]),
                }
            )
    return StudyResult("interest_points", rows, _draw(rows), _sentence(rows, outcomes, reference))


def _published(data: str, metric: str, descriptor: str | None) -> float | None:
    found = find_published(dataset=published_name(data), metric=metric, descriptor=descriptor, bits=None)
    return found[0].value if descriptor and found else None


def _draw(rows: Sequence[dict[str, Any]]) -> Figure:
    data_sets = list(dict.fromkeys(row["data"] for row in rows))
    of_each = len(rows) // len(data_sets)
    figure = blank_figure(6 * len(data_sets), 1.6 + 0.4 * of_each)
    panels = figure.subplots(1, len(data_sets), squeeze=False)[0]
    for axes, data in zip(panels, data_sets, strict=True):
        own = [row for row in rows if row["data"] == data]
        marks = [Dot(r["descriptor"], r["value"], r["low"], r["high"], r["published"]) for r in own]
        dots(axes, marks, f"{label(own[0]['metric'])}, 95 % intervals", "published, whole data set")
        axes.set_title(f"{data}: {own[0]['queries']} queries", fontsize=10)
    return figure


def _sentence(rows: Sequence[dict[str, Any]], outcomes: Outcomes, reference: str) -> str:
    parts = []
    for data in outcomes:
        told = []
        for row in (row for row in rows if row["data"] == data):
            change = Difference(row["difference"], row["difference_low"], row["difference_high"])
            against = "" if row["descriptor"] == reference else f" ({change} against {reference})"
            told.append(f"{row['descriptor']} {row['value']:.3f}{against}")
        first = next(row for row in rows if row["data"] == data)
        counts = f"{first['queries']} queries, {first['clusters']} clusters"
        parts.append(f"{data}, {label(first['metric'])}, {counts}: {', '.join(told)}")
    return f"{'; '.join(parts)} (95 % intervals, paired by query)."
