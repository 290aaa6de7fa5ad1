"""From a ranking to numbers: means, intervals, values per query."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niphash.data.names import portable_name
from niphash.data.task import AveragePrecision, Relevance, RetrievalTask
from niphash.evaluation.bootstrap import bootstrap_interval
from niphash.evaluation.functional import Ties, tie_groups
from niphash.evaluation.metrics import (
    MeanAveragePrecision,
    QueryMetric,
    RecallAt,
    RevisitedPrecisionAt,
    UkbScore,
)
from niphash.search.ranking import Ranking, Truth

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, eq=False)
class Report:
    """What an evaluation found. Keys are names of metrics: ``mAP``, ``recall@10``, ``mP@10``, ``ukb``, ...

    A variant of the ground truth adds the same names with its own at the end: ``mAP_easy``.

    Attributes:
        means: Mean over the queries that have relevant images; NaN when none has.
        intervals: Bootstrap 95 % interval of each mean.
        per_query: float64 [Q] of each metric, NaN for a query with no relevant image.
        counts: ``queries`` that count, ``empty_queries`` with no relevant image; the same of each variant.
        ties: The tie rule.
        average_precision: The convention of AP.
    """

    means: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_query: dict[str, np.ndarray]
    counts: dict[str, int]
    ties: Ties
    average_precision: AveragePrecision

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: the means, and beside them intervals, counts and conventions."""
        return {
            **{name: _plain(mean) for name, mean in self.means.items()},
            "intervals": {name: [_plain(end) for end in ends] for name, ends in self.intervals.items()},
            **self.counts,
            "ties": self.ties,
            "average_precision": self.average_precision,
        }

    def write_csv(self, path: Path | str, query_ids: Sequence[str]) -> None:
        """Write one line a query: its id and its value of each metric, empty where there is none."""
        columns = list(self.per_query.values())
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["query", *self.per_query])
            for query_id, *values in zip(query_ids, *columns, strict=True):
                writer.writerow(
                    [portable_name(query_id), *("" if np.isnan(v) else repr(float(v)) for v in values)]
                )


def evaluate(
    ranking: Ranking,
    truth: Truth,
    ties: Ties = "expected",
    average_precision: AveragePrecision | None = None,
    recall_at: Sequence[int] = (1, 10, 100, 1000),
    precision_at: Sequence[int] = (1, 5, 10),
    seed: int = 0,
    queries: np.ndarray | None = None,
) -> Report:
    """Measure a ranking.

    Args:
        ranking: Of Q queries, made for ``truth``.
        truth: The task (with its variants and its convention of AP) or the ground truth of each query.
        ties: Order inside equal distances: ``expected``, ``optimistic``, ``pessimistic``, ``stable``.
        average_precision: ``finite`` or ``trapezoid``; by default the task's own, else ``finite``.
        recall_at: Depths of recall@k; those beyond the database are left out.
        precision_at: Depths of mP@k (as the revisited protocol defines it), likewise.
        seed: Of the bootstrap.
        queries: int64 [Q]. When the queries are spread over processes: their numbers in the whole task.
            All processes must then call this together, and all get the report of all queries.

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
    recall_at, precision_at = (
        [k for k in depths if k <= ranking.database_size] for depths in (recall_at, precision_at)
    )

    report = Report({}, {}, {}, {}, ties, convention)
    for suffix, relevance in variants.items():
        metrics = _metrics(convention, recall_at, precision_at, sync_on_compute=queries is not None)
        groups = tie_groups(ranking, relevance, ties)
        numbers = np.arange(len(ranking)) if queries is None else queries
        for metric in metrics.values():
            metric.update(groups, numbers)
        _enter(report, metrics, suffix, seed)
    return report


def results_table(reports: Mapping[str, Report], title: str) -> "Table":
    """Return a Rich table: a line a metric, a column for each of ``reports`` (``descriptor``, ``code``)."""
    from rich.table import Table

    table = Table(title=title)
    table.add_column("metric")
    for name in reports:
        table.add_column(f"{name} [95 % interval]", justify="right")
    for metric in next(iter(reports.values())).means:
        table.add_row(metric, *(_cell(report, metric) for report in reports.values()))
    return table


def _metrics(
    convention: AveragePrecision, recall_at: Sequence[int], precision_at: Sequence[int], sync_on_compute: bool
) -> dict[str, QueryMetric]:
    sync: dict[str, Any] = {"sync_on_compute": sync_on_compute}
    return {
        "mAP": MeanAveragePrecision(convention, **sync),
        **{f"recall@{k}": RecallAt(k, **sync) for k in recall_at},
        **{f"mP@{k}": RevisitedPrecisionAt(k, **sync) for k in precision_at},
        "ukb": UkbScore(**sync),
    }


def _enter(report: Report, metrics: Mapping[str, QueryMetric], suffix: str, seed: int) -> None:
    values = np.column_stack([metric.per_query() for metric in metrics.values()])  # [Q, M]
    counted = ~np.isnan(values[:, 0])
    ends = bootstrap_interval(values[counted], seed)
    for column, (name, metric) in enumerate(metrics.items()):
        report.means[name + suffix] = float(metric.compute())
        report.intervals[name + suffix] = (float(ends[column, 0]), float(ends[column, 1]))
        report.per_query[name + suffix] = values[:, column]
    report.counts["queries" + suffix] = int(counted.sum())
    report.counts["empty_queries" + suffix] = int((~counted).sum())


def _cell(report: Report, metric: str) -> str:
    low, high = report.intervals[metric]
    return f"{report.means[metric]:.4f} [{low:.3f}, {high:.3f}]".replace("[", r"\[")


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
