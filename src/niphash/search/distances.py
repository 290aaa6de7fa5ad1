"""Exact distances between queries and a database as integers, block by block.

Integers make a tie a tie: no rounding that depends on the block, on the number of threads or on the order of
the files can pull two equal pictures apart.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from niphash.errors import InputError

BLOCK_BYTES = 32 * 2**20


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
        database: float [N, D]; an array or a memory map (read in blocks).

    Raises:
        InputError: the dimensions differ, or (while reading) a descriptor is not L2-normalised.
    """

    levels = None
    UNIT = 2.0**-20
    _SCALE = 2.0**26

    def __init__(self, queries: np.ndarray, database: np.ndarray) -> None:
        if queries.ndim != 2 or database.ndim != 2 or queries.shape[1] != database.shape[1]:
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


class AsymmetricDistances(Distances):
    """Float distances between exact queries and quantised images (product quantisation), as integers.

    Args:
        distances: Returns float32 [q, n], not negative, for float [q, D] queries and uint8 [n, B] codes.
        queries: float [Q, D], all readable.
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
        self._rows = max(1, BLOCK_BYTES // (8 * max(self.queries, 1)))

    def blocks(self) -> Iterator[Block]:
        """Yield blocks of as many database rows as memory allows."""
        for start in range(0, self.database, self._rows):
            ids = start + np.flatnonzero(self._readable[start : start + self._rows])
            yield Block(np.arange(self.queries), ids, self._integers(self._queries, self._codes[ids]))

    @property
    def steps(self) -> int:
        """How many blocks there are."""
        return -(-self.database // self._rows)

    def pairs(self, queries: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distances and readability of pairs."""
        distances = np.zeros(len(ids), np.int64)
        for query in np.unique(queries):
            own = np.flatnonzero(queries == query)
            distances[own] = self._integers(self._queries[query : query + 1], self._codes[ids[own]])[0]
        return distances, self._readable[ids]

    def as_reported(self, distances: np.ndarray) -> np.ndarray:
        """Return the float distance as float32."""
        return (distances * self.unit).astype(np.float32)

    def _integers(self, queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return np.rint(self._between(queries, codes) / self.unit).astype(np.int64)


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
