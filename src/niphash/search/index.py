"""What every index offers: codes in, nearest ids out, exactly."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from niphash.errors import InputError
from niphash.search.queries import checked_codes
from niphash.search.segment import Explanation

if TYPE_CHECKING:
    from niphash.hashing.hasher import DistanceName

__all__ = ["Explanation", "Index", "Neighbours", "Pairs", "Stats", "checked_bits"]

#: Codes that a join compares with the index at once, and that it takes out of it at once.
JOIN_ROWS, FETCH_ROWS = 4096, 2**20


class Neighbours(NamedTuple):
    """What lies within a radius of each query: those of query q are ``offsets[q]:offsets[q + 1]``.

    Attributes:
        offsets: int64 [Q + 1].
        distances: int32 or float32 [R], ascending inside a query.
        ids: int64 [R], equal distances ordered by id.
    """

    offsets: np.ndarray
    distances: np.ndarray
    ids: np.ndarray


class Pairs(NamedTuple):
    """Pairs of codes that lie near each other.

    Attributes:
        left: int64 [P], ids.
        right: int64 [P], ids, each greater than that on the left.
        distances: int32 [P], bits.
    """

    left: np.ndarray
    right: np.ndarray
    distances: np.ndarray


class Stats(NamedTuple):
    """The size of an index.

    Attributes:
        codes: Held, without the removed.
        removed: Removed codes that still take memory, until the next :meth:`Index.compact`.
        bits: Length of a code.
        segments: Parts that are searched one after the other.
        bytes: Size in memory, or of the files that are mapped.
    """

    codes: int
    removed: int
    bits: int
    segments: int
    bytes: int


class Index(ABC):
    """Bits to ranked ids, whatever holds them. Instantiated from ``conf/index``.

    Every answer is exact, and equal distances are ordered by id. An id is any int64 but one: -1 also stands
    for 'nothing', beside distance -1.
    """

    #: Length of a code.
    bits: int

    @abstractmethod
    def add(self, codes: np.ndarray, ids: np.ndarray | None = None) -> np.ndarray:
        """Add codes and return their ids.

        Args:
            codes: uint8 [N, bits // 8].
            ids: int64 [N], none of them held already; when not given, they follow the greatest id ever held.

        Raises:
            InputError: codes of another length, or an id used twice; the index is as it was.
        """

    @abstractmethod
    def remove(self, ids: np.ndarray) -> None:
        """Remove the codes of ids int64 [N].

        Raises:
            InputError: an id that is not held; the index is as it was.
        """

    @abstractmethod
    def search(
        self, queries: np.ndarray, k: int, distance: "DistanceName" = "hamming"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest of each query, nearest first, equal distances ordered by id.

        Args:
            queries: uint8 [Q, bits // 8] codes; for ``asymmetric`` float [Q, bits] projections.
            k: How many; there is no upper limit.
            distance: ``hamming``, or ``asymmetric``: bits weighted by how sure the query is of them, see
                :class:`niphash.search.distances.WeightedHammingDistances`.

        Returns:
            Distances [Q, k], int32 bits or float32 weighted bits, and ids int64 [Q, k]. Where the index holds
            fewer than k codes the rest is distance -1 and id -1.

        Raises:
            InputError: queries that do not fit, or k below 1.
        """

    @abstractmethod
    def range_search(
        self,
        queries: np.ndarray,
        radius: float,
        max_results: int | None = None,
        distance: "DistanceName" = "hamming",
    ) -> Neighbours:
        """Return all codes within ``radius`` of each query, or the ``max_results`` nearest of them.

        Raises:
            InputError: queries that do not fit, or a radius below 0.
        """

    def close(self) -> None:  # noqa: B027 - most hold nothing but memory
        """Give back what the index holds beside memory: processes, connections, a lock."""

    @abstractmethod
    def get(self, ids: np.ndarray) -> np.ndarray:
        """Return the codes of ids, uint8 [N, bits // 8].

        Raises:
            InputError: an id that is not held.
        """

    @property
    @abstractmethod
    def ids(self) -> np.ndarray:
        """int64 [N], the ids held, ascending."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of codes held."""

    @abstractmethod
    def compact(self) -> None:
        """Free what removed codes take, and put everything into one segment."""

    @abstractmethod
    def stats(self) -> Stats:
        """Return the size of the index."""

    @abstractmethod
    def explain(self, query: np.ndarray, k: int, distance: "DistanceName" = "hamming") -> Explanation:
        """Say how one query is answered: how far tables were probed, what was compared, if it scanned."""

    @abstractmethod
    def save(self, folder: Path | str) -> None:
        """Write the index to a folder, complete or not at all; one that is there is replaced."""

    @classmethod
    @abstractmethod
    def open(cls, folder: Path | str, mmap: bool = True) -> "Index":
        """Open what :meth:`save` wrote.

        Args:
            folder: An index of this kind.
            mmap: Map the files, in milliseconds; otherwise read them, and check every byte.

        Raises:
            InputError: the folder holds no index of this kind and version, or a damaged one.
        """

    def self_join(self, radius: int) -> Iterator[Pairs]:
        """Yield all pairs of codes within ``radius`` bits of each other, each once, some at a time."""
        for left, codes in self._parts(self.ids):
            found = self.range_search(codes, radius)
            left = np.repeat(left, np.diff(found.offsets))
            once = found.ids > left
            if once.any():
                yield Pairs(left[once], found.ids[once], found.distances[once])

    def knn_graph(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the k nearest others of each code: ids [N], distances int32 [N, k], their ids [N, k]."""
        ids = self.ids
        distances, others = np.empty((len(ids), k), np.int32), np.empty((len(ids), k), np.int64)
        start = 0
        for part, codes in self._parts(ids):
            at, found = self.search(codes, k + 1)
            own = found == part[:, None]
            own[:, -1] |= ~own.any(axis=1)  # lost among more than k copies of it
            rows = slice(start, start + len(part))
            distances[rows], others[rows] = (values[~own].reshape(-1, k) for values in (at, found))
            start = rows.stop
        return ids, distances, others

    def _parts(self, ids: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield ids and their codes, as many as a join compares at once.

        They are taken out of the index in larger parts: one that keeps no codes in rows looks through all
        row numbers each time.
        """
        for first in range(0, len(ids), FETCH_ROWS):
            some = ids[first : first + FETCH_ROWS]
            codes = self.get(some)
            for start in range(0, len(some), JOIN_ROWS):
                part = slice(start, start + JOIN_ROWS)
                yield some[part], codes[part]


def checked_bits(bits: int) -> int:
    """Return a code length.

    Raises:
        InputError: it is no positive multiple of 8.
    """
    if bits < 8 or bits % 8:
        raise InputError(f"bits={bits} is no code length; choose a positive multiple of 8")
    return int(bits)


def checked_k(k: int, name: str = "k") -> int:
    """Return a number of results.

    Raises:
        InputError: it is below 1.
    """
    if k < 1:
        raise InputError(f"{name}={k}; ask for at least one neighbour")
    return int(k)


def checked_radius(radius: float) -> float:
    """Return a radius.

    Raises:
        InputError: it is negative, or not a number.
    """
    if not radius >= 0:
        raise InputError(f"radius={radius}; choose 0 or more bits")
    return radius


def checked_ids(ids: np.ndarray) -> np.ndarray:
    """Return ids as int64 [N].

    Raises:
        InputError: they are no whole numbers, or there is one that no int64 holds.
    """
    values = np.asarray(ids)
    if values.ndim != 1 or (values.dtype.kind not in "iu" and values.size):
        raise InputError(f"ids {values.dtype} {values.shape} are no list of whole numbers; give int64 [N]")
    if values.dtype.kind == "u" and values.size and values.max() > np.iinfo(np.int64).max:
        raise InputError(f"id {values.max()} is too great; ids are int64")
    return values.astype(np.int64)


def checked_addition(
    codes: np.ndarray, ids: np.ndarray | None, bits: int, following: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return codes uint8 [N, bits // 8] and their ids int64 [N], ``following ..`` where none are given.

    Raises:
        InputError: codes of another length, another number of ids, or an id twice among them.
    """
    codes = checked_codes(codes, bits)
    if ids is None:
        if following + len(codes) - 1 > np.iinfo(np.int64).max:
            raise InputError(f"no ids are left after {following - 1}; give ids")
        return codes, following + np.arange(len(codes))
    ids = checked_ids(ids)
    if len(ids) != len(codes):
        raise InputError(f"{ids.size} ids for {len(codes)} codes; give one id a code")
    ordered = np.sort(ids)
    refuse_used(ordered[1:][ordered[1:] == ordered[:-1]])
    return codes, ids


#: What to do in place of removing, or asking for, an id that is not held.
REMOVE_HELD, ASK_HELD = "remove only what was added", "ask for ids that were added"


def refuse_used(ids: np.ndarray) -> None:
    """Refuse to add codes under ids int64 [n] that other codes have; none is fine.

    Raises:
        InputError: there is one.
    """
    if len(ids):
        raise InputError(f"id {ids[0]} is used twice; give every code its own id")


def refuse_absent(ids: np.ndarray, remedy: str) -> None:
    """Refuse ids int64 [n] that are not in the index; none is fine.

    Args:
        ids: Those that are missing.
        remedy: What to do in their place.

    Raises:
        InputError: there is one.
    """
    if len(ids):
        raise InputError(f"id {ids[0]} is not in the index; {remedy}")


def merge_results(distances: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest of [Q, n] results, equal distances ordered by id; distance -1 is no result."""
    order = np.lexsort((ids, np.where(distances < 0, np.inf, distances)))[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(ids, order, axis=1)
