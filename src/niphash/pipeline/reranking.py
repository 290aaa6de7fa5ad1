"""Measure what re-ranking brings to a search, and what it costs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from niphash.data.images import ImageSet
from niphash.data.task import RetrievalTask
from niphash.evaluation.evaluator import Report
from niphash.evaluation.intervals import bootstrap_interval
from niphash.progress import track
from niphash.search.distances import Distances
from niphash.search.exact import search_exhaustively
from niphash.search.rerank.reranker import DescribedPhotos, Reranker
from niphash.training.rows import Rows


@dataclass(frozen=True)
class Gain:
    """What re-ranking changed, paired by query.

    Attributes:
        after: What the re-ranked search reached.
        difference: Mean of after - before of each metric.
        intervals: 95 % interval of the difference, over clusters of queries.
        milliseconds: Processor time of re-ranking one query, all threads together, its own photo read and
            looked at included, the features of the database computed before.
    """

    after: Report
    difference: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    milliseconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **self.after.to_dict(),
            "difference": {name: _plain(value) for name, value in self.difference.items()},
            "difference_intervals": {
                name: [_plain(end) for end in ends] for name, ends in self.intervals.items()
            },
            "milliseconds": round(self.milliseconds, 3),
        }


def candidates(source: Distances, count: int, order: np.ndarray | None = None) -> np.ndarray:
    """Return the first ``count`` results of each query, int64 [Q, count], -1 where there are fewer.

    Args:
        source: Distances to a database.
        count: So many.
        order: int64 [N], which image stands in each place of that database; by default its number says so.
            Equal distances are ordered by place, and numbers may know the answer, as where distractors stand
            behind the photos that are sought.
    """
    _, found = search_exhaustively(source, min(count, source.database))
    return found if order is None else np.where(found >= 0, order[found], -1)


def rerank_queries(
    reranker: Reranker,
    task: RetrievalTask,
    queries: np.ndarray,
    database: Sequence[Rows],
    found: np.ndarray,
) -> tuple[np.ndarray, float]:
    """Re-rank the results of each query.

    Args:
        reranker: What orders them.
        task: Its Q queries, and the database.
        queries: float32 [Q, D] descriptors.
        database: float32 [N, D] descriptors, one array for each copy of the images; the nearest one counts.
        found: int64 [Q, K], of each query the first results, -1 where there are fewer.

    Returns:
        int64 [Q, K], ``found`` in the new order, and the milliseconds of processor time a query.
    """
    reranker.prepare(task.database.subset(np.unique(found[found >= 0]).tolist()))
    reordered, spent = found.copy(), 0.0
    for query in track(range(len(found)), "re-rank", len(found)):
        rows = found[query][found[query] >= 0]
        if not len(rows):
            continue
        photos = _described(task.database, database, rows, queries[query])
        asked = DescribedPhotos(task.queries.subset([query]), queries[query : query + 1])
        start = time.process_time()
        order = reranker.rerank(asked, photos).order
        spent += time.process_time() - start
        reordered[query, : len(rows)] = rows[order]
    return reordered, 1000 * spent / max(len(found), 1)


def gain(before: Report, after: Report, milliseconds: float, seed: int) -> Gain:
    """Compare two reports on the same queries.

    Args:
        before: Of the search.
        after: Of the re-ranked search.
        milliseconds: A query.
        seed: Of the bootstrap.
    """
    difference, intervals = {}, {}
    for name, values in after.per_query.items():
        change = values - before.per_query[name]
        counted = ~np.isnan(change)
        ends = bootstrap_interval(change[counted, None], after.clusters[counted], seed)[0]
        difference[name] = float(change[counted].mean()) if counted.any() else np.nan
        intervals[name] = (float(ends[0]), float(ends[1]))
    return Gain(after, difference, intervals, milliseconds)


def _described(
    images: ImageSet, copies: Sequence[Rows], rows: np.ndarray, query: np.ndarray
) -> DescribedPhotos:
    """Return some database photos, each with the descriptor of the copy that is nearest the query."""
    of_copies = np.stack([np.asarray(copy[rows]) for copy in copies])  # [C, n, D]
    nearest = np.argmax(of_copies @ query, axis=0)
    return DescribedPhotos(images.subset(rows.tolist()), of_copies[nearest, np.arange(len(rows))])


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
