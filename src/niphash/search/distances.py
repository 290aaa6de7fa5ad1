"""Exact distances between queries and a database as integers, block by block.

Integers make a tie a tie: no rounding that depends on the block, on the number of threads or on the order of
the files can pull two equal pictures apart.
"""

import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from niphash.errors import InputError
from niphash.hashing.codes import unpack_bits

if TYPE_CHECKING:
    from niphash.training.rows import Rows

BLOCK_BYTES = 32 * 2**20
#: Distances are smaller than this, so that one and an id make one integer (:mod:`niphash.search.exact`).
MOST = 2**23
#: What the bits of a code together count for in the weighted Hamming distance.
TOTAL_WEIGHT = 2**22


class Block(NamedTuple):
    """Distances of some queries to some database images.

    Attributes:
        queries: int64 [q], numbers of the queries.
        ids: int64 [n], numbers of the database images, ascending; later blocks of a query hold higher ones.
        distances: [q, n], integers.
    """

    queries: np.ndarray
    ids: np.ndarray
    distances: np.ndarray


class Distances(ABC):
    """Integer distances between ``queries`` and a ``database``, never all at once.

    Images without a descriptor (unreadable) appear in no block.
    """

    #: Distances lie in 0 .. levels - 1; ``None`` where that range is too wide to count by.
    levels: int | None
    queries: int
    database: int

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """Yield all distances, each pair of readable images once."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many blocks there are."""

    @abstractmethod
    def pairs(self, queries: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return for P pairs their distances int64 [P] and, bool [P], whether both images are readable."""

    @abstractmethod
    def as_reported(self, distances: np.ndarray) -> np.ndarray:
        """Turn integer distances into the unit that people read."""


class HammingDistances(Distances):
    """Hamming distances between packed codes.

    Args:
        queries: uint8 [Q, bits // 8].
        database: uint8 [N, bits // 8].
        readable: bool [N], database rows that are codes at all; all of them when not given.
        readable_queries: bool [Q], the same for the queries.

    Raises:
        InputError: the two have no common code length.
    """

    def __init__(
        self,
        queries: np.ndarray,
        database: np.ndarray,
        readable: np.ndarray | None = None,
        readable_queries: np.ndarray | None = None,
    ) -> None:
        if queries.ndim != 2 or database.ndim != 2 or queries.shape[1] != database.shape[1]:
            raise InputError(
                f"query codes {queries.shape} and database codes {database.shape} have no common length; "
                "encode both with one model"
            )
        self.queries, self.database = len(queries), len(database)
        self.levels = 8 * queries.shape[1] + 1
        self._readable = _mask(readable, self.database, "database images")
        self._readable_queries = _mask(readable_queries, self.queries, "queries")
        self._query_words, self._words = as_words(queries), as_words(database)
        self._rows = max(1, BLOCK_BYTES // 1024)  # a block of codes stays in the processor's cache

    def blocks(self) -> Iterator[Block]:
        """Yield one query at a time."""
        queries = np.flatnonzero(self._readable_queries)
        for start in range(0, self.database, self._rows):
            ids = start + np.flatnonzero(self._readable[start : start + self._rows])
            words = np.ascontiguousarray(self._words[ids].T)  # [W, n]
            for query in queries:
                distances = hamming(self._query_words[query][:, None], words)  # [n]
                yield Block(np.array([query]), ids, distances[None])

    @property
    def steps(self) -> int:
        """How many blocks there are."""
        return -(-self.database // self._rows) * int(self._readable_queries.sum())

    def pairs(self, queries: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distances and readability of pairs."""
        distances = hamming(self._query_words[queries].T, self._words[ids].T).astype(np.int64)
        return distances, self._readable_queries[queries] & self._readable[ids]

    def as_reported(self, distances: np.ndarray) -> np.ndarray:
        """Return differing bits as int32."""
        return distances.astype(np.int32)


class CosineDistances(Distances):
    """Cosine distances (1 - inner product) between L2-normalised descriptors, in units of 2**-20.

    Components are rounded to multiples of 2**-26, about float32's own precision. Their products are then
    integers whose sums stay below 2**53, so float64 adds them without any error and in any order.

    Args:
        queries: float [Q, D]; a NaN row is an unreadable image.
        database: float [N, D]; an array, a memory map or rows of a store (read in blocks).

    Raises:
        InputError: the dimensions differ, or (while reading) a descriptor is not L2-normalised.
    """

    levels = None
    UNIT = 2.0**-20
    _SCALE = 2.0**26

    def __init__(self, queries: np.ndarray, database: "Rows") -> None:
        if queries.ndim != 2 or len(database.shape) != 2 or queries.shape[1] != database.shape[1]:
            raise InputError(
                f"query descriptors {queries.shape} and database descriptors {database.shape} have no common "
                "dimension; describe both with one model"
            )
        self.queries, self.database = len(queries), len(database)
        self._queries, self._database = queries, database
        self._rows = max(1, BLOCK_BYTES // (8 * max(queries.shape[1], 1)))

    def blocks(self) -> Iterator[Block]:
        """Yield blocks of as many rows as memory allows."""
        for start in range(0, self.database, self._rows):
            rows, readable = self._fixed_point(self._database[start : start + self._rows])
            _let_go(self._database)
            ids, rows = start + np.flatnonzero(readable), rows[readable]
            for first in range(0, self.queries, self._rows):
                queries, readable = self._fixed_point(self._queries[first : first + self._rows])
                yield Block(
                    first + np.flatnonzero(readable), ids, self._distances(queries[readable] @ rows.T)
                )

    @property
    def steps(self) -> int:
        """How many blocks there are."""
        return -(-self.database // self._rows) * -(-self.queries // self._rows)

    def pairs(self, queries: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distances and readability of pairs."""
        distances, readable = np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
        for start in range(0, len(ids), self._rows):
            part = slice(start, start + self._rows)
            left, left_readable = self._fixed_point(self._queries[queries[part]])
            right, right_readable = self._fixed_point(self._database[ids[part]])
            readable[part] = left_readable & right_readable
            distances[part] = self._distances(np.einsum("pd,pd->p", left, right))
        return distances, readable

    def as_reported(self, distances: np.ndarray) -> np.ndarray:
        """Return 1 - inner product as float32."""
        return (distances * self.UNIT).astype(np.float32)

    def _distances(self, products: np.ndarray) -> np.ndarray:
        cosines = np.rint(products / (self._SCALE**2 * self.UNIT))
        return (round(1 / self.UNIT) - cosines).astype(np.int32)

    def _fixed_point(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = np.asarray(rows, np.float64) * self._SCALE
        np.rint(values, out=values)
        readable = np.logical_and.reduce(np.isfinite(values), axis=1)
        values[~readable] = 0
        lengths = np.sqrt(np.einsum("nd,nd->n", values, values)) / self._SCALE
        if lengths.max(initial=0) > 1.4:
            raise InputError(
                f"a descriptor has length {lengths.max():.3g}; divide each by its L2 norm to search them"
            )
        return values, readable


class WeightedHammingDistances(Distances):
    """Bits that differ, each counted for as much as the query is sure of it, |p_j| over the mean of all.

    The asymmetric distance of Gordo, Perronnin, Gong & Lazebnik, *Asymmetric Distances for Binary Embeddings*
    (TPAMI 2014): for a query's projections p and an image's bits as signs s it is (sum |p_j| - p . s) / 2, up
    to the scale. An image keeps nothing but its bits.

    Weights are rounded to whole numbers that add up to some 2**22, so float32 adds them without any error and
    in any order.

    Args:
        projections: float [Q, bits], whose signs are the bits of the queries; a NaN row finds nothing.
        codes: uint8 [N, bits // 8].
        readable: bool [N], rows that are codes at all; all of them when not given.

    Raises:
        InputError: the two have no common code length.
    """

    levels = None

    def __init__(
        self, projections: np.ndarray, codes: np.ndarray, readable: np.ndarray | None = None
    ) -> None:
        if projections.ndim != 2 or codes.ndim != 2 or projections.shape[1] != 8 * codes.shape[1]:
            raise InputError(
                f"projections {projections.shape} and codes {codes.shape} have no common length; make both "
                "with one model"
            )
        self.queries, self.database = len(projections), len(codes)
        self._readable_queries = np.isfinite(projections).all(axis=1)
        projections = np.where(self._readable_queries[:, None], projections, 0)
        weights = self.weights(projections)
        ones = projections > 0
        self._of_zeros = np.where(ones, weights, 0).sum(axis=1)  # [Q], distance to a code of zeros
        self._signed = np.where(ones, -weights, weights).astype(np.float32)  # [Q, bits], added by a one
        self._codes, self._readable = codes, _mask(readable, self.database, "database images")
        self._rows = max(1, BLOCK_BYTES // (4 * max(projections.shape)))

    @staticmethod
    def weights(projections: np.ndarray) -> np.ndarray:
        """Return what each bit counts for: whole numbers, float64 [Q, bits], TOTAL_WEIGHT in all."""
        return _shares(np.abs(projections, dtype=np.float64), TOTAL_WEIGHT)

    def blocks(self) -> Iterator[Block]:
        """Yield blocks of as many database rows as memory allows."""
        queries = np.flatnonzero(self._readable_queries)
        signed, of_zeros = self._signed[queries], self._of_zeros[queries, None]
        for start in range(0, self.database, self._rows):
            ids = start + np.flatnonzero(self._readable[start : start + self._rows])
            sums = signed @ self._bits(ids).T  # [q, n]
            yield Block(queries, ids, (of_zeros + sums).astype(np.int32))

    @property
    def steps(self) -> int:
        """How many blocks there are."""
        return -(-self.database // self._rows)

    def pairs(self, queries: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distances and readability of pairs."""
        distances = np.empty(len(ids), np.int64)
        for start in range(0, len(ids), self._rows):
            part = slice(start, start + self._rows)
            sums = np.einsum("pb,pb->p", self._signed[queries[part]], self._bits(ids[part]))
            distances[part] = self._of_zeros[queries[part]] + sums.astype(np.int64)
        return distances, self._readable_queries[queries] & self._readable[ids]

    def as_reported(self, distances: np.ndarray) -> np.ndarray:
        """Return weighted bits, 0 to the length of a code, as float32."""
        return (distances * (self._signed.shape[1] / TOTAL_WEIGHT)).astype(np.float32)

    def _bits(self, ids: np.ndarray) -> np.ndarray:
        """Return the bits of images as float32 [n, bits] of zeros and ones."""
        return unpack_bits(self._codes[ids]).astype(np.float32)


class AsymmetricDistances(Distances):
    """Float distances between exact queries and quantised images (product quantisation), as integers.

    Args:
        distances: Returns float32 [q, n], not negative, for float [q, D] queries and uint8 [n, B] codes.
        queries: float [Q, D]; a NaN row finds nothing.
        codes: uint8 [N, B].
        readable: bool [N], rows that are codes at all.
        unit: Distances are rounded to multiples of it.
    """

    levels = None

    def __init__(
        self,
        distances: Callable[[np.ndarray, np.ndarray], np.ndarray],
        queries: np.ndarray,
        codes: np.ndarray,
        readable: np.ndarray | None = None,
        unit: float = 2.0**-20,
    ) -> None:
        self.queries, self.database = len(queries), len(codes)
        self._between, self._queries, self._codes, self.unit = distances, queries, codes, unit
        self._readable = _mask(readable, self.database, "database images")
        self._readable_queries = np.isfinite(queries).all(axis=1)
        self._rows = max(1, BLOCK_BYTES // (8 * max(self.queries, 1)))

    def blocks(self) -> Iterator[Block]:
        """Yield blocks of as many database rows as memory allows."""
        queries = np.flatnonzero(self._readable_queries)
        for start in range(0, self.database, self._rows):
            ids = start + np.flatnonzero(self._readable[start : start + self._rows])
            yield Block(queries, ids, self._integers(self._queries[queries], self._codes[ids]))

    @property
    def steps(self) -> int:
        """How many blocks there are."""
        return -(-self.database // self._rows)

    def pairs(self, queries: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distances and readability of pairs."""
        distances = np.zeros(len(ids), np.int64)
        for query in np.unique(queries[self._readable_queries[queries]]):
            own = np.flatnonzero(queries == query)
            distances[own] = self._integers(self._queries[query : query + 1], self._codes[ids[own]])[0]
        return distances, self._readable_queries[queries] & self._readable[ids]

    def as_reported(self, distances: np.ndarray) -> np.ndarray:
        """Return the float distance as float32."""
        return (distances * self.unit).astype(np.float32)

    def _integers(self, queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
        distances = np.rint(self._between(queries, codes) / self.unit)
        if distances.max(initial=0) >= MOST:
            raise InputError(
                f"a distance of {distances.max() * self.unit:.3g} is too long; divide each "
                "descriptor by its L2 norm"
            )
        return distances.astype(np.int64)


class NearestOfSeveral(Distances):
    """The least of the distances to several descriptors (or codes) of each database image.

    Args:
        sources: One for each descriptor of an image; same queries, same readable images.
    """

    def __init__(self, sources: Sequence[Distances]) -> None:
        self._sources = tuple(sources)
        first = self._sources[0]
        self.levels, self.queries, self.database = first.levels, first.queries, first.database

    def blocks(self) -> Iterator[Block]:
        """Yield the element-wise minimum of the sources' blocks."""
        for blocks in zip(*(source.blocks() for source in self._sources), strict=True):
            nearest = np.minimum.reduce([block.distances for block in blocks])
            yield blocks[0]._replace(distances=nearest)

    @property
    def steps(self) -> int:
        """How many blocks there are."""
        return self._sources[0].steps

    def pairs(self, queries: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distances and readability of pairs."""
        found = [source.pairs(queries, ids) for source in self._sources]
        return np.minimum.reduce([distances for distances, _ in found]), found[0][1]

    def as_reported(self, distances: np.ndarray) -> np.ndarray:
        """Return distances in the unit of the sources."""
        return self._sources[0].as_reported(distances)


def _let_go(rows: "Rows") -> None:
    """Let a file that is mapped to be read keep its pages: they would count as memory of this process."""
    mapping = getattr(rows, "_mmap", None)
    if mapping is not None and getattr(rows, "mode", None) == "r" and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _shares(sizes: np.ndarray, total: int) -> np.ndarray:
    """Return whole numbers [Q, n] in proportion to ``sizes``, each row adding up to about ``total``."""
    sums = sizes.sum(axis=1, keepdims=True)
    even = np.broadcast_to(1 / sizes.shape[1], sizes.shape)
    return np.rint(total * np.divide(sizes, sums, out=even.copy(), where=sums > 0))


def as_words(codes: np.ndarray) -> np.ndarray:
    """View uint8 [N, B] as the widest unsigned integers that divide a row, [N, W]."""
    codes = np.ascontiguousarray(codes, np.uint8)
    width = next(w for w in (8, 4, 2, 1) if codes.shape[1] % w == 0)
    return codes.view(f"u{width}")


def hamming(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return how many bits differ between words [W, ...] and [W, ...] (broadcast), uint8 or uint16 [...]."""
    bits = 8 * left.itemsize * len(left)
    total = np.bitwise_count(left[0] ^ right[0]).astype(np.uint8 if bits < 256 else np.uint16, copy=False)
    for a, b in zip(left[1:], right[1:], strict=True):
        total += np.bitwise_count(a ^ b)
    return total


def _mask(readable: np.ndarray | None, count: int, of_what: str) -> np.ndarray:
    if readable is None:
        return np.ones(count, bool)
    if len(readable) != count:
        raise ValueError(f"a mask of {len(readable)} for {count} {of_what}")
    return np.asarray(readable, bool)
