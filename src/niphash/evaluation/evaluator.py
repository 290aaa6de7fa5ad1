"""From a ranking to numbers: means, intervals, values per query."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niphash.data.names import portable_name
from niphash.data.task import AveragePrecision, Relevance, RetrievalTask
from niphash.evaluation import functional
from niphash.evaluation.functional import Ties, tie_groups
from niphash.evaluation.intervals import bootstrap_interval, query_photos
from niphash.evaluation.metrics import QueryClusters, QueryMetric, Score
from niphash.search.ranking import Ranking, Truth

if TYPE_CHECKING:
    from rich.table import Table

#: Depths of recall@k, and of hit_rate@k, precision@k and mP@k.
RECALL_DEPTHS, DEPTHS = (1, 10, 100, 1000), (1, 5, 10)

#: First columns of a file of values per query.
QUERY, CLUSTER = "query", "cluster"


@dataclass(frozen=True, eq=False)
class Report:
    """What an evaluation found.

    Keys are names of metrics: ``mAP``, ``recall@k``, ``hit_rate@k`` (a relevant image in the first k; the
    cumulative match characteristic), ``precision@k``; ``ukb`` (4 x recall@4) where every query has four
    relevant images; ``mP@k`` for a task with variants of its ground truth. A variant adds the same names with
    its own at the end: ``mAP_easy``.

    Attributes:
        means: Mean over the queries that have relevant images; NaN when none has.
        intervals: 95 % interval of each mean, over clusters of queries; NaN for fewer than two clusters.
        per_query: float64 [Q] of each metric, NaN for a query with no relevant image.
        clusters: int64 [Q], the cluster of each query (:func:`niphash.evaluation.intervals.query_clusters`).
        counts: ``queries`` that count, ``clusters`` that they form, ``empty_queries`` with no relevant image;
            the same of each variant.
        ties: The tie rule.
        average_precision: The convention of AP.
    """

    means: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_query: dict[str, np.ndarray]
    clusters: np.ndarray
    counts: dict[str, int]
    ties: Ties
    average_precision: AveragePrecision

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: the means, and beside them intervals, counts and conventions.

        ``ukb`` is always there, null where it means nothing.
        """
        return {
            "ukb": None,
            **{name: _plain(mean) for name, mean in self.means.items()},
            "intervals": {name: [_plain(end) for end in ends] for name, ends in self.intervals.items()},
            **self.counts,
            "ties": self.ties,
            "average_precision": self.average_precision,
        }

    def write_csv(self, path: Path | str, query_ids: Sequence[str]) -> None:
        """Write one line a query: id, cluster, and the value of each metric, empty where it has none."""
        columns = list(self.per_query.values())
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([QUERY, CLUSTER, *self.per_query])
            for query_id, cluster, *values in zip(query_ids, self.clusters, *columns, strict=True):
                cells = ("" if np.isnan(v) else repr(float(v)) for v in values)
                writer.writerow([portable_name(query_id), int(cluster), *cells])


def evaluate(
    ranking: Ranking,
    truth: Truth,
    ties: Ties = "expected",
    average_precision: AveragePrecision | None = None,
    depth: int | None = None,
    seed: int = 0,
    queries: np.ndarray | None = None,
    further: Mapping[str, Score] | None = None,
) -> Report:
    """Measure a ranking.

    Args:
        ranking: Of Q queries, made for ``truth``.
        truth: The task (with its variants and its convention of AP) or the ground truth of each query.
        ties: Order inside equal distances: ``expected``, ``optimistic``, ``pessimistic``, ``stable``.
        average_precision: ``finite`` or ``trapezoid``; by default the task's own, else ``finite``.
        depth: How many results a query has at most; metrics of deeper ranks are left out. By default all.
        seed: Seed of the bootstrap.
        queries: int64 [Q]. When the queries are spread over processes: their numbers in the whole task.
            All processes must then call this together, and all get the report of all queries.
        further: More metrics by name, functions of :class:`~niphash.evaluation.functional.TieGroups`.

    Raises:
        InputError: no such tie rule or convention; ``stable`` for a ranking made without ``tied_before``.
    """
    variants: dict[str, Sequence[Relevance]] = {
        "": truth.relevance if isinstance(truth, RetrievalTask) else truth
    }
    if isinstance(truth, RetrievalTask):
        variants.update((f"_{name}", relevance) for name, relevance in truth.variants.items())
        average_precision = average_precision or truth.average_precision
    convention = average_precision or "finite"
    depth = min(depth or ranking.database_size, ranking.database_size)
    numbers = np.arange(len(ranking)) if queries is None else queries
    spread = {"sync_on_compute": queries is not None}

    clusters = QueryClusters(**spread)
    clusters.update(numbers, query_photos(truth))
    report = Report({}, {}, {}, clusters.compute().cpu().numpy().reshape(-1), {}, ties, convention)
    for suffix, relevance in variants.items():
        groups = tie_groups(ranking, relevance, ties)
        metrics = _metrics(convention, depth, revisited=len(variants) > 1, **spread)
        metrics.update((name, QueryMetric(score, **spread)) for name, score in (further or {}).items())
        for metric in metrics.values():
            metric.update(groups, numbers)
        _enter(report, metrics, suffix, seed)
    return report


def results_table(reports: Mapping[str, Report], title: str) -> "Table":
    """Return a Rich table: a line a metric, a column for each of ``reports`` (``descriptor``, ``code``)."""
    from rich.table import Table

    first = next(iter(reports.values()))
    queries, clusters = first.counts["queries"], first.counts["clusters"]
    table = Table(
        title=title, caption=f"intervals over clusters of queries; queries: {queries}, clusters: {clusters}"
    )
    table.add_column("metric")
    for name in reports:
        table.add_column(f"{name} [95 % interval]", justify="right")
    for metric in first.means:
        table.add_row(metric, *(_cell(report, metric) for report in reports.values()))
    return table


def _metrics(
    convention: AveragePrecision, depth: int, revisited: bool, **options: Any
) -> dict[str, QueryMetric]:
    """Return the metrics of one ground truth; mP@k belongs to the revisited protocol, which has variants."""
    at_depth = [
        ("recall", functional.recall_at, RECALL_DEPTHS),
        ("hit_rate", functional.hit_rate_at, DEPTHS),
        ("precision", functional.precision_at, DEPTHS),
        ("mP", functional.revisited_precision_at, DEPTHS if revisited else ()),
    ]
    scores: dict[str, Score] = {"mAP": partial(functional.average_precision, convention=convention)}
    for name, score, depths in at_depth:
        scores.update((f"{name}@{k}", partial(score, k=k)) for k in depths if k <= depth)
    scores["ukb"] = functional.ukb_score
    return {name: QueryMetric(score, **options) for name, score in scores.items()}


def _enter(report: Report, metrics: Mapping[str, QueryMetric], suffix: str, seed: int) -> None:
    per_query = {name: metric.per_query() for name, metric in metrics.items()}
    counted = ~np.isnan(per_query["mAP"])
    if np.isnan(per_query["ukb"][counted]).any():
        del per_query["ukb"]  # some query has another number of relevant images than four
    clusters = report.clusters[counted]
    values = np.column_stack(list(per_query.values()))[counted]  # [Q, M]
    ends = bootstrap_interval(values, clusters, seed)
    for column, name in enumerate(per_query):
        report.means[name + suffix] = float(metrics[name].compute())
        report.intervals[name + suffix] = (float(ends[column, 0]), float(ends[column, 1]))
        report.per_query[name + suffix] = per_query[name]
    report.counts["queries" + suffix] = int(counted.sum())
    report.counts["clusters" + suffix] = len(np.unique(clusters))
    report.counts["empty_queries" + suffix] = int((~counted).sum())


def _cell(report: Report, metric: str) -> str:
    low, high = report.intervals[metric]
    interval = "no interval" if np.isnan(low) else f"{low:.3f}, {high:.3f}"
    return f"{report.means[metric]:.4f} [{interval}]".replace("[", r"\[")


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
