"""The ranking: what a search found, in the form that metrics and pictures read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from niphash.data.task import Relevance, RetrievalTask
from niphash.errors import InputError
from niphash.progress import track
from niphash.search.distances import CosineDistances, Distances, HammingDistances
from niphash.search.exact import Nearest

#: A task (all its variants), or the ground truth of each query.
Truth = RetrievalTask | Sequence[Relevance]


@dataclass(frozen=True, eq=False)
class Ranking:
    """The nearest images of each query, and the places of the images that its ground truth speaks of.

    Queries x database is never materialised: an image is *judged* if it is relevant or junk to the query (in
    any variant of the ground truth), and only judged images have places. Places count every retrieved image,
    junk included; the metrics take junk out, so one ranking serves all variants.

    Attributes:
        ids: int64 [Q, K], the first K results of each query (database numbers), -1 where there are fewer.
        distances: int32 or float32 [Q, K], ascending, -1 where there is no result.
        offsets: int64 [Q + 1]; the judged images of query q are ``offsets[q]:offsets[q + 1]``.
        judged: int64 [J], database numbers, ascending inside a query.
        nearer: int64 [J], how many images are strictly nearer; -1 when this one was not retrieved.
        tied: int64 [J], how many images are at the very same distance, itself included.
        tied_before: int64 [J], how many of those have a smaller number; ``None`` when it was not asked for.
        database_size: Number of images in the database.
    """

    ids: np.ndarray
    distances: np.ndarray
    offsets: np.ndarray
    judged: np.ndarray
    nearer: np.ndarray
    tied: np.ndarray
    tied_before: np.ndarray | None
    database_size: int

    def __post_init__(self) -> None:
        for name in ("ids", "offsets", "judged", "nearer", "tied", "tied_before"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, np.array(value, np.int64))
        object.__setattr__(self, "distances", np.array(self.distances))
        for problem, found in self._problems():
            if found:
                raise ValueError(f"not a ranking: {problem}")
        for name in ("ids", "distances", "offsets", "judged", "nearer", "tied", "tied_before"):
            value = getattr(self, name)
            if value is not None:
                value.flags.writeable = False

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.ids)

    def _problems(self) -> Iterator[tuple[str, bool]]:
        size = self.database_size
        yield (
            "ids and distances differ in shape",
            self.ids.ndim != 2 or self.ids.shape != self.distances.shape,
        )
        yield "an id lies outside the database", bool(np.any((self.ids < -1) | (self.ids >= size)))
        at = np.where(self.ids < 0, np.inf, self.distances)
        yield "distances do not ascend", bool(np.any(at[:, 1:] < at[:, :-1]))
        yield "offsets do not fit the queries", self.offsets.shape != (len(self.ids) + 1,)
        ends = self.offsets[0] != 0 or self.offsets[-1] != len(self.judged)
        yield "offsets do not fit the judged images", bool(ends or np.any(np.diff(self.offsets) < 0))
        columns = [c for c in (self.nearer, self.tied, self.tied_before) if c is not None]
        yield "the judged images differ in number", any(c.shape != self.judged.shape for c in columns)
        yield (
            "a judged image lies outside the database",
            bool(np.any((self.judged < 0) | (self.judged >= size))),
        )
        yield (
            "judged images are not in order",
            bool(np.any(np.diff(self.keys(self.judged_queries, self.judged)) <= 0)),
        )
        found = self.nearer >= 0
        yield "a place is negative", bool(np.any(self.nearer < -1) or np.any(self.tied[found] < 1))
        yield "a place lies outside the database", bool(np.any((self.nearer + self.tied)[found] > size))
        if self.tied_before is not None:
            outside = (self.tied_before < 0) | (self.tied_before >= self.tied)
            yield "a place lies outside its tie", bool(np.any(outside[found]))

    @property
    def judged_queries(self) -> np.ndarray:
        """int64 [J], the query that each judged image belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def keys(self, queries: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Return one int64 for each pair of a query and a number in 0 .. database size, in their order."""
        return queries * (self.database_size + 1) + numbers


def rank_codes(
    query_codes: np.ndarray,
    database_codes: np.ndarray,
    truth: Truth,
    k: int = 100,
    readable: np.ndarray | None = None,
    readable_queries: np.ndarray | None = None,
    tied_before: bool = False,
) -> Ranking:
    """Rank a database by exact Hamming distance.

    Args:
        query_codes: uint8 [Q, bits // 8].
        database_codes: uint8 [N, bits // 8].
        truth: Task or ground truth of the queries; says which images need a place.
        k: How many results to keep for each query.
        readable: bool [N], rows of unreadable images are False: never retrieved, but still relevant.
        readable_queries: bool [Q]; an unreadable query retrieves nothing.
        tied_before: Also find the order by number inside ties (needed for ``ties=stable`` only).

    Raises:
        InputError: the codes differ in length.
    """
    source = HammingDistances(query_codes, database_codes, readable, readable_queries)
    return rank(source, truth, k, tied_before, "rank codes")


def rank_descriptors(
    queries: np.ndarray, database: np.ndarray, truth: Truth, k: int = 100, tied_before: bool = False
) -> Ranking:
    """Rank a database by cosine distance of L2-normalised descriptors, in steps of 2**-20.

    Args:
        queries: float [Q, D]; a NaN row is an unreadable photo, which retrieves nothing.
        database: float [N, D], an array or a memory map; a NaN row is never retrieved, but still relevant.
        truth: Task or ground truth of the queries; says which images need a place.
        k: How many results to keep for each query.
        tied_before: Also find the order by number inside ties (needed for ``ties=stable`` only).

    Raises:
        InputError: the dimensions differ, or a descriptor is not L2-normalised.
    """
    return rank(CosineDistances(queries, database), truth, k, tied_before, "rank descriptors")


def ranking_from_lists(lists: Sequence[np.ndarray], truth: Truth, database_size: int) -> Ranking:
    """Take over ranked lists that another tool made: database numbers, best first, of any length.

    What a list does not name is not retrieved. Lists have no ties; their distances are the ranks 0, 1, ...

    Raises:
        InputError: a list names an image twice or outside the database, or there is not one a query.
    """
    offsets, judged = judged_images(truth)
    _check_truth(offsets, judged, len(lists), database_size)
    nearer = np.full(len(judged), -1, np.int64)
    ids = np.full((len(lists), max(map(len, lists), default=0)), -1, np.int64)
    for query, found in enumerate(lists):
        found = np.asarray(found, np.int64)
        _check_list(found, query, database_size)
        ids[query, : len(found)] = found
        own = slice(offsets[query], offsets[query + 1])
        _, rank, hit = np.intersect1d(found, judged[own], assume_unique=True, return_indices=True)
        nearer[own][hit] = rank
    distances = np.where(ids < 0, -1, np.arange(ids.shape[1])).astype(np.float32)
    tied = (nearer >= 0).astype(np.int64)
    return Ranking(ids, distances, offsets, judged, nearer, tied, np.zeros_like(tied), database_size)


def judged_images(truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets int64 [Q + 1] and numbers int64 [J] of the images relevant or junk to each query."""
    variants = (truth.relevance, *truth.variants.values()) if isinstance(truth, RetrievalTask) else (truth,)
    of_query = [
        np.unique(np.concatenate([part for r in relevance for part in (r.relevant, r.junk)]))
        for relevance in zip(*variants, strict=True)
    ]
    offsets = np.cumsum([0, *map(len, of_query)])
    return offsets, np.concatenate([np.empty(0, np.int64), *of_query])


def rank(
    source: Distances, truth: Truth, k: int = 100, tied_before: bool = False, doing: str = "rank"
) -> Ranking:
    """Rank a database by any distances; see :func:`rank_codes` for the arguments."""
    offsets, judged = judged_images(truth)
    _check_truth(offsets, judged, source.queries, source.database)
    at, readable = source.pairs(np.repeat(np.arange(source.queries), np.diff(offsets)), judged)
    nearer, tied, before = (np.zeros(len(judged), np.int64) for _ in range(3))
    nearest = Nearest(source.queries, min(k, max(source.database, 1)))
    for block in track(source.blocks(), doing, source.steps):
        for query, row in zip(block.queries, block.distances, strict=True):
            nearest.push(query, row, block.ids)
            own = slice(offsets[query], offsets[query + 1])
            below, upto = _count_below(row, at[own], source.levels)
            nearer[own] += below
            tied[own] += upto - below
            if tied_before:
                before[own] += _count_before(row, block.ids, at[own], judged[own], upto - below)
    nearer[~readable], tied[~readable], before[~readable] = -1, 0, 0
    distances, ids = nearest.result(source)
    return Ranking(
        ids, distances, offsets, judged, nearer, tied, before if tied_before else None, source.database
    )


def _count_below(row: np.ndarray, at: np.ndarray, levels: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return how many distances of ``row`` [n] are below, and how many up to, each of ``at`` [j]."""
    if levels is None:
        ordered = np.sort(row)
        return np.searchsorted(ordered, at, "left"), np.searchsorted(ordered, at, "right")
    upto = np.cumsum(np.bincount(row, minlength=levels))
    return np.where(at > 0, upto[at - 1], 0), upto[at]


def _count_before(
    row: np.ndarray, ids: np.ndarray, at: np.ndarray, judged: np.ndarray, tied: np.ndarray
) -> np.ndarray:
    """Return how many of the images ``ids`` at distance ``at`` [j] have a number below ``judged`` [j]."""
    ends = np.searchsorted(ids, judged)
    before = np.where(ends == len(ids), tied, 0)
    for i in np.flatnonzero((ends > 0) & (ends < len(ids)) & (tied > 0)):
        before[i] = np.count_nonzero(row[: ends[i]] == at[i])
    return before


def _check_list(found: np.ndarray, query: int, size: int) -> None:
    outside = found[(found < 0) | (found >= size)]
    if outside.size:
        raise InputError(
            f"the ranked list of query {query} names image {outside[0]}; the database has {size}"
        )
    numbers, times = np.unique(found, return_counts=True)
    if np.any(times > 1):
        raise InputError(f"the ranked list of query {query} names image {numbers[times > 1][0]} twice")


def _check_truth(offsets: np.ndarray, judged: np.ndarray, queries: int, size: int) -> None:
    if len(offsets) - 1 != queries:
        raise InputError(
            f"{len(offsets) - 1} ground truths for {queries} queries; rank the queries of one task"
        )
    if judged.size and (judged.min() < 0 or judged.max() >= size):
        raise InputError(
            f"the ground truth names image {judged.max()}, but {size} database images were searched"
        )
