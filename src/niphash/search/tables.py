"""Codes in tables of 16-bit words, of which a query looks at a few buckets."""

from functools import lru_cache
from itertools import pairwise

import numpy as np

from niphash.search.compilation import kernels
from niphash.search.flat import FlatSegment
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

BUCKETS = 65536
SAMPLE, SAMPLE_WEIGHTED = 32768, 8192
WEIGHT_LEVELS = 128
#: Of the cost of a scan that probing may cost before the scan is the better bet.
SHARE = 0.7
#: Rows of a table are 32-bit numbers.
MOST_CODES = 2**32 - 1
MOST_TABLES = 4


class TableSegment(Segment):
    """A multi-index: table j holds the codes in the order of their j-th word.

    Where probing does not pay, for a query that is far from everything or among codes that crowd, it scans.

    Args:
        bits: Length of a code, 32 or more.
        ids: Of the N codes.
        offsets: uint32 [T, 65537], where each bucket starts.
        rest: uint16 [T, words - 1, N], the words of each code beside that of its bucket.
        rows: uint32 [N], where in order of ids the codes of table 0 are.
        sample: uint16 [words, S], some of the codes.
        flat: The codes in rows as well, for a faster scan; ``None`` saves their memory.
    """

    #: Share of the cost of a scan, see :data:`SHARE`; infinite never scans.
    share: float = SHARE

    def __init__(
        self,
        bits: int,
        ids: SortedIds,
        offsets: np.ndarray,
        rest: np.ndarray,
        rows: np.ndarray,
        sample: np.ndarray,
        flat: FlatSegment | None,
    ) -> None:
        self.bits, self.ids, self.flat = bits, ids, flat
        self.offsets, self.rest, self.rows, self.sample = offsets, rest, rows, sample

    @classmethod
    def of(
        cls, source: FlatSegment, tables: int, keep_rows: bool = True, threads: int | None = None
    ) -> "TableSegment":
        """Build ``tables`` tables of the codes of ``source``, which is kept if ``keep_rows``."""
        compiled, size, words = kernels().tables, len(source), -(-source.bits // 16)
        offsets = np.empty((tables, BUCKETS + 1), np.uint32)
        rest = np.empty((tables, words - 1, size), np.uint16)
        rows, none = np.empty(size, np.uint32), np.empty(0, np.uint32)
        threads = threads_for(size * tables, threads)

        def fill(some: range) -> None:
            for table in some:
                compiled.fill(
                    source.planes, size, words, table, offsets[table], rest[table], none if table else rows
                )

        in_threads(fill, [(range(first, last),) for first, last in parts_of(tables, threads)])
        in_threads(
            lambda first, stop: compiled.sort_buckets(first, stop, offsets[0], rest[0], rows),
            parts_of(BUCKETS, threads),
        )
        some = np.sort(np.random.default_rng(0).integers(0, size, SAMPLE)) if size else np.empty(0, np.int64)
        sample = np.ascontiguousarray(source.planes[:, some].T).view(np.uint16)[:, :words].T
        return cls(
            source.bits,
            source.ids,
            offsets,
            rest,
            rows,
            np.ascontiguousarray(sample),
            source if keep_rows else None,
        )

    def nearest(self, queries: Queries, k: int, limits: np.ndarray, threads: int | None) -> np.ndarray:
        """Return the nearest codes below a distance; see :meth:`Segment.nearest`."""
        if kernels(len(self) * len(queries)) is None and self.flat is not None:
            return self.flat.nearest(queries, k, limits, threads)
        keys = empty_keys(limits, k)
        found = self._probe(queries, k, limits, keys, threads)[:, 0]
        scan = np.flatnonzero(found < 0)
        if scan.size:
            keys[scan] = self._scan(queries[scan], k, limits[scan], threads)
        keys.sort(axis=1)
        return keys

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """Return the codes of rows, uint8 [n, bits // 8]; without ``flat`` this reads all row numbers."""
        if self.flat is not None:
            return self.flat.codes(rows)
        unique, back = np.unique(rows, return_inverse=True)
        wanted = np.zeros(len(self), bool)
        wanted[unique] = True
        places = np.zeros(len(unique), np.int64)
        kernels().tables.places_of(self.rows, wanted, len(unique), places)
        order = np.argsort(self.rows[places])
        return self._codes_at(places[order])[back]

    def words(self, rows: slice) -> np.ndarray:
        """Return the word planes of rows, uint64 [W, n]."""
        if self.flat is not None:
            return self.flat.words(rows)
        start, stop, _ = rows.indices(len(self))
        codes = self.codes(np.arange(start, stop))
        width = 8 * -(-self.bits // 64)
        return np.ascontiguousarray(np.pad(codes, ((0, 0), (0, width - codes.shape[1]))).view(np.uint64).T)

    def explain(self, query: Queries, k: int, threads: int | None) -> Explanation:
        """Say how one query is answered."""
        limits = np.full(1, 2**23 - 1, np.int64)
        found, looked, buckets, radius = self._probe(query, k, limits, empty_keys(limits, k), threads)[
            0
        ].tolist()
        scanned = found < 0
        return Explanation(
            min(radius, self.bits if query.weights is None else 2**23 - 1),
            looked + (len(self) if scanned else 0),
            buckets,
            scanned,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the tables, and the codes in rows where they are kept."""
        arrays = {"offsets": self.offsets, "rest": self.rest, "rows": self.rows, "sample": self.sample}
        return arrays | (self.flat.arrays() if self.flat is not None else {})

    def _probe(
        self, queries: Queries, k: int, limits: np.ndarray, keys: np.ndarray, threads: int | None
    ) -> np.ndarray:
        """Fill ``keys`` for the queries that need no scan; return the reports int64 [Q, 4] of the kernel."""
        compiled = kernels().tables
        reports = np.zeros((len(queries), 4), np.int64)
        arguments = (queries.halves, queries.half_weights, queries.half_masks, queries.units)
        weighted = queries.weights is not None
        sample = (
            np.ascontiguousarray(self.sample[:, :: SAMPLE // SAMPLE_WEIGHTED]) if weighted else self.sample
        )

        def probe(first: int, last: int) -> None:
            order, starts = (
                _weight_order(len(self.offsets)) if weighted else _hamming_order(len(self.offsets))
            )
            compiled.search(
                *(argument[first:last] for argument in arguments), self.offsets, self.rest, self.rows, sample,
                order, starts, limits[first:last] - 1, self.share, keys[first:last], reports[first:last],
            )  # fmt: skip

        many = threads_for(len(queries) * 1_000_000, threads)
        in_threads(probe, parts_of(len(queries), many))
        return reports

    def _scan(self, queries: Queries, k: int, limits: np.ndarray, threads: int | None) -> np.ndarray:
        if self.flat is not None:
            return self.flat.nearest(queries, k, limits, threads)
        arguments = (queries.halves, queries.half_weights, queries.half_masks, queries.units)
        # Buckets hold very different numbers of codes: ranges of about as many codes each.
        count = threads_for(len(self) * len(queries), threads)
        edges = np.searchsorted(self.offsets[0], np.linspace(0, len(self), count + 1)[1:-1]).tolist()
        edges = [0, *edges, BUCKETS]

        def scan(first: int, stop: int) -> np.ndarray:
            keys = empty_keys(limits, k)
            kernels().tables.scan_buckets(*arguments, self.offsets, self.rest, self.rows, first, stop, keys)
            return keys

        return least_keys(in_threads(scan, pairwise(edges)), k)

    def _codes_at(self, places: np.ndarray) -> np.ndarray:
        """Return the codes at places of table 0, uint8 [n, bits // 8]."""
        buckets = np.searchsorted(self.offsets[0], places, "right") - 1
        halves = np.concatenate([buckets[:, None].astype(np.uint16), self.rest[0][:, places].T], axis=1)
        return np.ascontiguousarray(np.ascontiguousarray(halves).view(np.uint8)[:, : self.bits // 8])


@lru_cache
def _hamming_order(tables: int) -> tuple[np.ndarray, np.ndarray]:
    """Return patterns of differing bits by their number, uint16 [T, 65536], and where each number starts."""
    ones = np.bitwise_count(np.arange(BUCKETS, dtype=np.uint16))
    order = np.argsort(ones, kind="stable").astype(np.uint16)
    starts = np.concatenate([[0], np.cumsum(np.bincount(ones, minlength=17))])
    return np.tile(order, (tables, 1)), np.tile(starts, (tables, 1))


def _weight_order(tables: int) -> tuple[np.ndarray, np.ndarray]:
    """Return room for the same by weight, which differs from query to query."""
    return np.empty((tables, BUCKETS), np.uint16), np.empty((tables, WEIGHT_LEVELS + 1), np.int64)
