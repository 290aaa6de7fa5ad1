"""Measure a trained model on a retrieval task: the float descriptor and the code, on the same photos."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from niphash.data.images import ImageSet
from niphash.data.names import portable_name
from niphash.data.task import RetrievalTask
from niphash.descriptors.describer import Describer, DescribeReport, unreadable
from niphash.descriptors.store.distributed import describe_distributed
from niphash.descriptors.store.store import DescriptorStore, StoredDescriptors, describe_to_store
from niphash.errors import InputError
from niphash.evaluation.calibration import Reliability, results_reliability
from niphash.evaluation.evaluator import Report, evaluate
from niphash.evaluation.functional import Ties
from niphash.evaluation.metrics import Score
from niphash.hashing.hasher import DistanceName
from niphash.model import Model
from niphash.pipeline.fitting import share_a_photo
from niphash.pipeline.reranking import Gain, candidates, gain, rerank_queries
from niphash.pipeline.run import Run
from niphash.pipeline.task_views import DatabasePooling
from niphash.search.comparison import DistanceChoice, choose_distance, code_distances, spread
from niphash.search.distances import CosineDistances, Distances, NearestOfSeveral
from niphash.search.index import Index
from niphash.search.ranking import Ranking, rank
from niphash.search.rerank.places import rerank_ranking
from niphash.search.rerank.reranker import Reranker
from niphash.training.rows import Rows
from niphash.training.trainer import TrainerFactory

#: Describes the photos that the store lacks and returns the descriptors of all.
Describe = Callable[[ImageSet, DescribeReport], StoredDescriptors]

#: How many results of each query are kept for pictures and result files.
TOP = 10


#: What takes time.
PARTS = ("describe", "fit", "search")


@dataclass
class Stopwatch:
    """Seconds spent on each part of the work."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Add the time of the ``with`` block to ``part``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start


@dataclass(frozen=True)
class IndexAnswers:
    """The nearest codes by an index, beside those of the exhaustive ranking.

    Attributes:
        kind: Name of the index's class.
        codes: Number of codes that it holds.
        differing: Number of queries whose nearest photos by the index are others.
    """

    kind: str
    codes: int
    differing: int


@dataclass(frozen=True)
class Measurement:
    """One model on one data set.

    Attributes:
        task: The task that was measured (unreadable queries left out).
        descriptor: What the float descriptor reached.
        code: What the code reached, ``None`` for ``hashing=none``.
        rankings: ``{"descriptor": ..., "code": ...}``, and of those that were re-ranked
            ``{"reranked_descriptor": ..., "reranked_code": ...}``.
        reranker: What ordered the first results anew, ``None`` for nothing.
        reranked: ``{"descriptor": ..., "code": ...}``, what that brought; empty without any.
        skipped: ``[{"id": ..., "reason": ...}]`` of the photos that could not be read.
        blank: Number of photos without any local descriptor.
        read: Number of photos described.
        distance: How the codes were compared, ``None`` for ``hashing=none``.
        transductive: Whether a photo that the model was fitted on is among them.
        index: What ``conf/index`` answered, ``None`` where it cannot hold such codes.
        calibration: How true the probabilities of the first results by code are, ``None`` without any.
    """

    task: RetrievalTask
    descriptor: Report
    code: Report | None
    rankings: dict[str, Ranking]
    reranker: Reranker | None
    reranked: dict[str, Gain]
    skipped: list[dict[str, str]]
    blank: int
    read: int
    distance: DistanceName | None
    transductive: bool
    index: IndexAnswers | None
    calibration: Reliability | None = None


def describe_with(describer: Describer, store: DescriptorStore, trainer: TrainerFactory | None) -> Describe:
    """Return what describes images into ``store``, with as many processes as ``trainer`` has.

    Args:
        describer: Fitted.
        store: Its store; photos that it holds are not described again.
        trainer: Makes the Lightning trainer of a run with several processes; ``None`` for one process.
    """
    if trainer is None:
        return lambda images, report: describe_to_store(describer, images, store, report)
    return lambda images, report: describe_distributed(describer, images, store, trainer, report)


@dataclass(frozen=True)
class Comparison:
    """How the images of a task are compared and counted.

    Attributes:
        ties: Order inside equal distances.
        distance: Between codes, see :func:`niphash.search.comparison.choose_distance`.
        recenter: Move the bit thresholds to the mean of the database first.
        seed: Seed of the bootstrap.
        new_index: Makes the empty index of ``conf/index`` for codes of so many bits.
        metrics: Further metrics by name.
        reranker: Orders the first results anew; ``None`` for none.
    """

    ties: Ties
    distance: DistanceChoice
    recenter: bool
    seed: int
    new_index: Callable[[int], Index]
    metrics: Mapping[str, Score]
    reranker: Reranker | None = None

    @classmethod
    def of(cls, run: Run, model: Model) -> "Comparison":
        """Read the options of a run; a model trained with ``hashing.recenter=index`` asks for it itself."""
        recenter = run.recenter or model.hasher.recenters_on_index
        return cls(run.ties, run.distance, recenter, run.seed, run.new_index, run.metrics, run.new_reranker())


def measure(
    model: Model,
    task: RetrievalTask,
    describe: Describe,
    watch: Stopwatch,
    comparison: Comparison,
    pooling: DatabasePooling | None = None,
) -> Measurement:
    """Describe, encode and rank the photos of ``task`` and compute every metric.

    Unreadable database photos are never retrieved but stay relevant; unreadable queries are left out. A photo
    without any local descriptor looks like nothing: it is never retrieved, and as a query it finds nothing.

    Args:
        model: Trained.
        task: What is searched for in what.
        describe: Describes images that the store lacks, see :func:`describe_with`.
        watch: Is told the time that each part takes.
        comparison: How.
        pooling: Describe database images over rotations.

    Raises:
        InputError: no database photo or no query can be read, or the codes know no such distance.
    """
    distance = choose_distance(model.hasher, comparison.distance) if model.bits else None
    of_database, of_queries = DescribeReport(), DescribeReport()
    with watch.time("describe"):
        database = _describe_database(task, describe, of_database, pooling)
        described = describe(task.queries, of_queries)
    blank = of_database.blank + of_queries.blank
    if database.stored is not None:  # a query may be a database image too
        both = ((task.database, database.stored), (task.queries, described))
        blank = len({photo for images, stored in both for photo in _blank_photos(images, stored)})
    skipped = _unreadable_photos((task.database, of_database), (task.queries, of_queries))
    read = _count_photos(task) - len(skipped)
    task, queries = _readable_queries(task, described)
    with watch.time("search"):
        sources = {"descriptor": _nearest([CosineDistances(queries, copy) for copy in database.copies])}
        if distance is not None:
            if comparison.recenter:
                model.hasher.recenter(database.readable_copies[0])
            codes = [
                spread(model.hasher.encode(rows), database.readable) for rows in database.readable_copies
            ]
            sources["code"] = _nearest(
                [code_distances(model.hasher, queries, c, database.readable, distance) for c in codes]
            )
        rankings = {
            name: rank(source, task, k=TOP, tied_before=comparison.ties == "stable", doing=f"rank by {name}")
            for name, source in sources.items()
        }
    answers = None
    seen = np.flatnonzero(np.isfinite(queries[:, 0]))  # queries that have a descriptor
    if (
        distance is not None
        and len(codes) == 1
        and (of_index := model.hasher.index_queries(queries[seen], distance)) is not None
    ):
        with watch.time("search"), closing(comparison.new_index(model.bits)) as index:
            index.add(codes[0][database.readable], np.flatnonzero(database.readable))
            answers = _ask(index, of_index, distance, rankings["code"].ids[seen])
    spent = {}
    if comparison.reranker is not None:
        firsts = {"descriptor": candidates(sources["descriptor"], comparison.reranker.first)}
        if distance is not None:
            order = _order_of_ties(len(task.database), comparison)
            source = _nearest(
                [
                    code_distances(model.hasher, queries, c[order], database.readable[order], distance)
                    for c in codes
                ]
            )
            firsts["code"] = candidates(source, comparison.reranker.first, order)
        for name, found in firsts.items():
            reordered, spent[name] = rerank_queries(
                comparison.reranker, task, queries, database.copies, found
            )
            rankings[f"reranked_{name}"] = rerank_ranking(rankings[name], reordered)
    reports = {
        name: evaluate(ranking, task, ties=comparison.ties, seed=comparison.seed, further=comparison.metrics)
        for name, ranking in rankings.items()
    }
    known = None if distance is None else model.calibration(distance)
    return Measurement(
        task=task,
        descriptor=reports["descriptor"],
        code=reports.get("code"),
        rankings=rankings,
        reranker=comparison.reranker,
        reranked={
            name: gain(reports[name], reports[f"reranked_{name}"], milliseconds, comparison.seed)
            for name, milliseconds in spent.items()
        },
        skipped=skipped,
        blank=blank,
        read=read,
        distance=distance,
        transductive=any(share_a_photo(model.fit_checksums, s) for s in (task.database, task.queries)),
        index=answers,
        calibration=None if known is None else results_reliability(known, rankings["code"], task, TOP),
    )


@dataclass(frozen=True)
class _Database:
    """Database descriptors, of each copy of the images.

    Attributes:
        copies: [N, D] each, in memory or in the store.
        readable: bool [N], the images that could be read and have a descriptor.
        readable_copies: [n, D] each, the descriptors of those.
        stored: The one copy where it is in the store.
    """

    copies: Sequence[Rows]
    readable: np.ndarray
    readable_copies: Sequence[Rows]
    stored: StoredDescriptors | None = None


def _describe_database(
    task: RetrievalTask, describe: Describe, report: DescribeReport, pooling: DatabasePooling | None
) -> _Database:
    if pooling is None:
        stored = describe(task.database, report)
        comparable = stored.comparable()
        readable = comparable.positions >= 0
        database = _Database([comparable], readable, [comparable.subset(readable)], stored)
    else:
        copies = pooling.describe(
            task.database, lambda images: np.asarray(describe(images, report).comparable())
        )
        readable = np.isfinite(copies[0][:, 0])
        readable_copies = copies if readable.all() else [copy[readable] for copy in copies]
        database = _Database(copies, readable, readable_copies)
    if readable.any():
        return database
    if len(report.skipped) < len(readable):
        raise InputError(
            f"{task.name}: none of the {len(readable)} database photos has a local descriptor; lower "
            "backbone.peak, or describe them by a network"
        )
    raise InputError(f"{task.name}: {unreadable(report.skipped, len(readable), 'database photos')}")


def _readable_queries(task: RetrievalTask, described: StoredDescriptors) -> tuple[RetrievalTask, np.ndarray]:
    """Leave out the queries whose photo cannot be read; return the rows of the others, NaN of blank ones."""
    read = described.positions >= 0
    if not read.any():
        raise InputError(f"{task.name}: none of the {len(read)} query photos can be read")
    queries = np.asarray(described.comparable().subset(read))
    return (task if read.all() else task.with_queries(np.flatnonzero(read))), queries


def _order_of_ties(images: int, comparison: Comparison) -> np.ndarray:
    """Return int64 [N]: which of equally near images are re-ranked is drawn, but where ties are stable."""
    if comparison.ties == "stable":
        return np.arange(images)
    return np.random.default_rng(comparison.seed).permutation(images)


def _ask(index: Index, queries: np.ndarray, distance: DistanceName, nearest: np.ndarray) -> IndexAnswers:
    """Ask ``index`` with queries, codes or projections, and compare with their ``nearest``, int64 [Q, k]."""
    _, ids = index.search(queries, nearest.shape[1], distance)
    differing = int((ids != nearest).any(axis=1).sum())
    return IndexAnswers(type(index).__name__, len(index), differing)


def _nearest(sources: Sequence[Distances]) -> Distances:
    return sources[0] if len(sources) == 1 else NearestOfSeveral(sources)


def _count_photos(task: RetrievalTask) -> int:
    """Return the number of different photos: a query may be a database image, or a box in one."""
    return len({_photo(source) for source in (*task.database.sources, *task.queries.sources)})


def _blank_photos(images: ImageSet, stored: StoredDescriptors) -> set[Path | int]:
    """Return the photos without any local descriptor, each once."""
    return {_photo(images.sources[row]) for row in np.flatnonzero(stored.blank).tolist()}


def _unreadable_photos(*described: tuple[ImageSet, DescribeReport]) -> list[dict[str, str]]:
    """Return each photo that could not be read once, by the name it has in the first set that holds it."""
    found: dict[Path | int, dict[str, str]] = {}
    for images, report in described:
        for skipped in report.skipped:
            entry = {"id": portable_name(images.ids[skipped.row]), "reason": skipped.reason}
            found.setdefault(_photo(images.sources[skipped.row]), entry)
    return sorted(found.values(), key=lambda entry: entry["id"])


def _photo(source: Path | Image.Image) -> Path | int:
    return source if isinstance(source, Path) else id(source)
