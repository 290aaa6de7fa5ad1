"""Codes in rows, all of them compared with every query."""

import numpy as np

from niphash.search.compilation import kernels
from niphash.search.distances import hamming
from niphash.search.exact import Nearest
from niphash.search.queries import Queries
from niphash.search.segment import (
    Explanation,
    Segment,
    SortedIds,
    empty_keys,
    in_threads,
    least_keys,
    parts_of,
    threads_for,
)

PLAIN_ROWS = 65536


class FlatSegment(Segment):
    """A scan, at the speed of memory; for many queries at that of the vector unit.

    Args:
        bits: Length of a code.
        planes: uint64 [W, capacity], word w of a code (padded with zeros) in row w; the first N are used.
        ids: Of the N codes.
    """

    def __init__(self, bits: int, planes: np.ndarray, ids: SortedIds) -> None:
        self.bits, self.planes, self.ids = bits, planes, ids

    @classmethod
    def of(cls, bits: int, words: np.ndarray, ids: SortedIds) -> "FlatSegment":
        """Return a segment of word planes uint64 [W, N]."""
        return cls(bits, np.ascontiguousarray(words), ids)

    @classmethod
    def empty(cls, bits: int) -> "FlatSegment":
        """Return a segment of no codes."""
        return cls(bits, np.empty((-(-bits // 64), 0), np.uint64), SortedIds(np.empty(0, np.int64)))

    def followed_by(self, words: np.ndarray, ids: np.ndarray) -> "FlatSegment":
        """Return a segment with codes uint64 [W, n] added under ids that are greater than all here.

        The two share their memory; a search of this one may go on.
        """
        size, planes = len(self), self.planes
        if size + len(ids) > planes.shape[1]:
            capacity = max(size + len(ids), 2 * size if size else 0)
            planes = np.empty((len(planes), capacity), np.uint64)
            planes[:, :size] = self.planes[:, :size]
        planes[:, size : size + len(ids)] = words
        return FlatSegment(self.bits, planes, self.ids.followed_by(ids))

    def nearest(self, queries: Queries, k: int, limits: np.ndarray, threads: int | None) -> np.ndarray:
        """Return the nearest codes below a distance; see :meth:`Segment.nearest`."""
        comparisons = len(self) * len(queries) * len(self.planes)
        compiled = kernels(comparisons)
        if compiled is None:
            return self._nearest_plain(queries, k, limits)
        threads = threads_for(comparisons, threads)
        seeds = empty_keys(limits, k)

        def scan(part: slice, start: int, stop: int, keys: np.ndarray) -> np.ndarray:
            if queries.weights is None:
                compiled.flat.scan(self.planes, start, stop, queries.words[part], keys)
            else:
                compiled.flat.scan_weighted(
                    self.planes, start, stop, queries.words[part], queries.masks[part], queries.units[part],
                    queries.byte_tables[part], keys,
                )  # fmt: skip
            return keys

        self._prepare(queries)
        if len(queries) >= 4 * threads:  # rows of the output are contiguous: each thread has its queries
            in_threads(
                scan,
                [
                    (slice(first, last), 0, len(self), seeds[first:last])
                    for first, last in parts_of(len(queries), threads)
                ],
            )
            return least_keys([seeds], k)
        parts = in_threads(
            scan,
            [(slice(None), start, stop, seeds.copy()) for start, stop in parts_of(len(self), threads)],
        )
        return least_keys(parts, k)

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """Return the codes of rows, uint8 [n, bits // 8]."""
        words = np.ascontiguousarray(self.planes[:, rows].T)
        return np.ascontiguousarray(words.view(np.uint8)[:, : self.bits // 8])

    def words(self, rows: slice) -> np.ndarray:
        """Return the word planes of rows, uint64 [W, n]."""
        return self.planes[:, : len(self)][:, rows]

    def explain(self, query: Queries, k: int, threads: int | None) -> Explanation:
        """Say how one query is answered."""
        return Explanation(-1, len(self), 0, True)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the word planes."""
        return {"planes": self.planes[:, : len(self)]}

    @staticmethod
    def _prepare(queries: Queries) -> None:
        """Compute what the threads share before they start."""
        _ = queries.words
        if queries.weights is not None:
            _ = queries.masks, queries.units, queries.byte_tables

    def _nearest_plain(self, queries: Queries, k: int, limits: np.ndarray) -> np.ndarray:
        nearest = Nearest(len(queries), k)
        for start in range(0, len(self), PLAIN_ROWS):
            words = self.words(slice(start, start + PLAIN_ROWS))
            rows = np.arange(start, start + words.shape[1])
            for query in range(len(queries)):
                distances = _plain_distances(queries, query, words)
                near = distances < limits[query]
                if near.all():
                    nearest.push(query, distances, rows)
                elif near.any():
                    nearest.push(query, distances[near], rows[near])
        return nearest.keys.view(np.uint64)


def _plain_distances(queries: Queries, query: int, words: np.ndarray) -> np.ndarray:
    """Return the distances int64 [n] of one query to word planes uint64 [W, n]."""
    if queries.weights is None:
        return hamming(queries.words[query][:, None], words).astype(np.int64)
    tables = queries.byte_tables[query]
    differing = np.ascontiguousarray((words ^ queries.words[query][:, None]).T).view(np.uint8)  # [n, 8 W]
    return sum(table[differing[:, byte]].astype(np.int64) for byte, table in enumerate(tables))
