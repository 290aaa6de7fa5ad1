"""A segment: codes in order of their ids that never change, and the search of them."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from niphash.search.queries import FARTHEST, Queries

#: A result inside a segment is one integer, distance * 2**ROW_BITS + row.
ROW_BITS = 40
ROW_MASK = (1 << ROW_BITS) - 1
#: A thread is worth starting for this many comparisons of words.
THREAD_WORK = 4_000_000


class SortedIds:
    """Ids int64 [N] in ascending order; a run without gaps takes no memory.

    Args:
        values: Ascending, all different.
    """

    def __init__(self, values: np.ndarray) -> None:
        self._size = len(values)
        self._first = int(values[0]) if len(values) else 0
        gapless = not len(values) or int(values[-1]) - self._first == len(values) - 1
        #: int64 [N], or ``None`` for a run without gaps.
        self.values = None if gapless else values

    @classmethod
    def run(cls, first: int, size: int) -> "SortedIds":
        """Return ``first .. first + size - 1``."""
        ids = cls(np.empty(0, np.int64))
        ids._first, ids._size = first, size
        return ids

    def __len__(self) -> int:
        return self._size

    @property
    def first(self) -> int:
        """The least id."""
        return self._first

    @property
    def last(self) -> int:
        """The greatest id."""
        return self._first + self._size - 1 if self.values is None else int(self.values[-1])

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        if self.values is not None:
            return self.values[rows]
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(self._size))
        return rows.astype(np.int64) + self._first

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return the rows int64 of ids, -1 for those that are not here."""
        if not self._size:
            return np.full(len(ids), -1, np.int64)
        if self.values is None:
            inside = (ids >= self._first) & (ids <= self.last)
            return np.where(inside, ids - self._first, -1)
        rows = np.minimum(np.searchsorted(self.values, ids), self._size - 1)
        return np.where(self.values[rows] == ids, rows, -1)

    def followed_by(self, ids: np.ndarray) -> "SortedIds":
        """Return these and ascending ``ids``, all of them greater."""
        if not self._size:
            return SortedIds(ids)
        if (
            self.values is None
            and int(ids[0]) == self.last + 1
            and int(ids[-1]) - int(ids[0]) == len(ids) - 1
        ):
            return SortedIds.run(self._first, self._size + len(ids))
        return SortedIds(np.concatenate([self[:], ids]))


class Explanation(NamedTuple):
    """How a query was answered.

    Attributes:
        radius: Integer distance below which the tables had shown every code, -1 where none were probed.
        candidates: Codes that were compared.
        buckets: Buckets that were visited.
        scanned: Whether all codes were compared in the end.
    """

    radius: int
    candidates: int
    buckets: int
    scanned: bool


class Segment(ABC):
    """Codes that are searched together; rows are in order of their ids."""

    ids: SortedIds
    bits: int

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def nearest(self, queries: Queries, k: int, limits: np.ndarray, threads: int | None) -> np.ndarray:
        """Return the nearest codes below a distance.

        Args:
            queries: Of as many bits.
            k: How many, 1 .. N.
            limits: int64 [Q], results are nearer than this.
            threads: How many to use.

        Returns:
            uint64 [Q, k], distance * 2**40 + row, ascending; where there are fewer, ``limits * 2**40`` or
            more.
        """

    @abstractmethod
    def codes(self, rows: np.ndarray) -> np.ndarray:
        """Return the codes of rows, uint8 [n, bits // 8]."""

    @abstractmethod
    def words(self, rows: slice) -> np.ndarray:
        """Return the word planes of rows, uint64 [W, n]."""

    @abstractmethod
    def explain(self, query: Queries, k: int, threads: int | None) -> Explanation:
        """Say how one query is answered."""

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """Return what is to be stored of it, beside the ids."""

    @property
    def bytes(self) -> int:
        """Size of its arrays."""
        ids = self.ids.values
        return sum(part.nbytes for part in self.arrays().values()) + (0 if ids is None else ids.nbytes)


def empty_keys(limits: np.ndarray, k: int) -> np.ndarray:
    """Return keys uint64 [Q, k] above all results below ``limits`` int64 [Q]."""
    return np.repeat((limits.astype(np.uint64) << np.uint64(ROW_BITS))[:, None], k, axis=1)


def no_limits(queries: int) -> np.ndarray:
    """Return limits int64 [Q] above all distances."""
    return np.full(queries, FARTHEST, np.int64)


def threads_for(work: float, threads: int | None) -> int:
    """Return how many threads ``work`` comparisons of words are worth, at most ``threads``, or all cores."""
    if threads == 1 or work < 2 * THREAD_WORK:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(threads or cores, int(work // THREAD_WORK))


def in_threads(work: Callable[..., Any], parts: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Call ``work`` for each part, each in a thread; of the caller where there is one."""
    parts = list(parts)
    if len(parts) < 2:
        return [work(*part) for part in parts]
    # Threads of one call: none is left to a process that forks later.
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(lambda part: work(*part), parts))


def parts_of(size: int, count: int) -> list[tuple[int, int]]:
    """Return ``count`` ranges that divide ``size``, none of them empty."""
    count = min(count, max(size, 1))
    return list(pairwise(size * part // count for part in range(count + 1)))


def least_keys(parts: list[np.ndarray], k: int) -> np.ndarray:
    """Merge keys uint64 [Q, k] each to the k least, ascending."""
    keys = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    keys.sort(axis=1)
    return np.ascontiguousarray(keys[:, :k])


class State(NamedTuple):
    """All codes at one moment. Nothing in it changes, so searches need no lock.

    Attributes:
        segments: The last one is the block of new codes, flat.
        removed: For each segment the rows that are no longer held, int64, ascending.
    """

    segments: tuple[Segment, ...]
    removed: tuple[np.ndarray, ...]

    @property
    def held(self) -> int:
        """The number of codes held."""
        return sum(map(len, self.segments)) - sum(map(len, self.removed))
