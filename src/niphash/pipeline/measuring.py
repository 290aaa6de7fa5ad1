"""Measure a trained model on a retrieval task: the float descriptor and the code, on the same photos."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from niphash.data.task import RetrievalTask
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.store import DescriptorStore, describe_once
from niphash.errors import InputError
from niphash.evaluation.evaluator import Report, evaluate
from niphash.evaluation.functional import Ties
from niphash.hashing.hasher import Hasher
from niphash.model import Model
from niphash.pipeline.provenance import share_a_photo
from niphash.search.ranking import Ranking, rank_codes, rank_descriptors

#: How many results of each query are kept for pictures and result files.
TOP = 10


@dataclass
class Stopwatch:
    """Seconds spent on each part of the work."""

    seconds: dict[str, float] = field(default_factory=lambda: {"describe": 0.0, "fit": 0.0, "search": 0.0})

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Add the time of the ``with`` block to ``part``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start


@dataclass(frozen=True)
class Measurement:
    """One model on one data set.

    Attributes:
        task: The task that was measured (unreadable queries left out).
        descriptor: What the float descriptor reached.
        code: What the code reached, ``None`` for ``hashing=none``.
        rankings: ``{"descriptor": ..., "code": ...}``.
        skipped: ``[{"id": ..., "reason": ...}]`` of the photos that could not be read.
        blank: Number of photos without any local descriptor.
        read: Number of photos described.
        transductive: Whether a photo that the model was fitted on is among them.
    """

    task: RetrievalTask
    descriptor: Report
    code: Report | None
    rankings: dict[str, Ranking]
    skipped: list[dict[str, str]]
    blank: int
    read: int
    transductive: bool


def recentered_on_index(model: Model) -> bool:
    """Tell whether the model's bits are to be re-centred on whatever collection is searched."""
    return model.config["hashing"].get("recenter") == "index"


def measure(
    model: Model,
    task: RetrievalTask,
    store: DescriptorStore,
    watch: Stopwatch,
    ties: Ties,
    seed: int,
    recenter: bool = False,
) -> Measurement:
    """Describe, encode and rank the photos of ``task`` and compute every metric.

    Unreadable database photos are never retrieved but stay relevant; unreadable queries are left out.

    Raises:
        InputError: no database photo or no query can be read.
    """
    report = DescribeReport()
    with watch.time("describe"):
        database = describe_once(model.describer, task.database, store, report)
        queries = describe_once(model.describer, task.queries, store, report)
    task, queries = _readable_queries(task, queries)
    readable = np.isfinite(database[:, 0])
    if not readable.any():
        raise InputError(f"{task.name}: none of the {len(database)} database photos can be read")
    with watch.time("search"):
        order: dict[str, Any] = {"k": TOP, "tied_before": ties == "stable"}
        rankings = {"descriptor": rank_descriptors(queries, database, task, **order)}
        if model.bits:
            rankings["code"] = _rank_by_code(model.hasher, queries, database, readable, task, recenter, order)
    precision_at = (1, 5, 10) if task.variants else ()  # mP@k belongs to the revisited protocol
    reports = {
        name: evaluate(ranking, task, ties=ties, precision_at=precision_at, seed=seed)
        for name, ranking in rankings.items()
    }
    return Measurement(
        task=task,
        descriptor=reports["descriptor"],
        code=reports.get("code"),
        rankings=rankings,
        skipped=_unique(report),
        blank=report.blank,
        read=_count_photos(task) - len(_unique(report)),
        transductive=any(share_a_photo(model.fit_checksums, s) for s in (task.database, task.queries)),
    )


def _readable_queries(task: RetrievalTask, queries: np.ndarray) -> tuple[RetrievalTask, np.ndarray]:
    """Leave out the queries whose photo cannot be read (rows of NaN)."""
    rows = np.flatnonzero(np.isfinite(queries[:, 0]))
    if len(rows) == len(queries):
        return task, queries
    if not len(rows):
        raise InputError(f"{task.name}: none of the {len(queries)} query photos can be read")
    return task.with_queries(rows), queries[rows]


def _rank_by_code(
    hasher: Hasher,
    queries: np.ndarray,
    database: np.ndarray,
    readable: np.ndarray,
    task: RetrievalTask,
    recenter: bool,
    order: dict[str, Any],
) -> Ranking:
    if recenter:
        hasher.recenter(database[readable])
    codes = np.zeros((len(database), hasher.bits // 8), np.uint8)
    codes[readable] = hasher.encode(database[readable])
    return rank_codes(hasher.encode(queries), codes, task, readable=readable, **order)


def _count_photos(task: RetrievalTask) -> int:
    """Return the number of different photos: a query may be a database image, or a box in one."""
    sources = (*task.database.sources, *task.queries.sources)
    return len({source if isinstance(source, Path) else id(source) for source in sources})


def _unique(report: DescribeReport) -> list[dict[str, str]]:
    """Return each photo that could not be read once, though it may be query and database image."""
    reasons = {skipped.image_id: skipped.reason for skipped in report.skipped}
    return [{"id": image_id, "reason": reason} for image_id, reason in sorted(reasons.items())]
