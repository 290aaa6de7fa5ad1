"""Which codes of an index lie near a query, by whatever distance the model's codes are compared."""

from typing import Any, NamedTuple

import numpy as np

from niphash.errors import InputError
from niphash.hashing.hasher import Hasher
from niphash.search.comparison import DistanceChoice, choose_distance, code_distances
from niphash.search.index import Index

#: Photos returned when neither their number nor their distance was given.
USUAL_K = 10


class Near(NamedTuple):
    """Distances [n], ascending, and ids int64 [n]."""

    distances: np.ndarray
    ids: np.ndarray


class Reach(NamedTuple):
    """How much is wanted.

    Attributes:
        k: At most so many; 10 when nothing is given.
        within: Not farther than this many bits, or ``None``.
        distance: Between codes.
    """

    k: int | None = None
    within: float | None = None
    distance: DistanceChoice = "auto"

    @property
    def most(self) -> int | None:
        """At most how many; ``None`` when all within a distance are wanted."""
        return None if self.k is None and self.within is not None else self.k or USUAL_K

    def check(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            InputError: ``k`` below 1, or ``within`` below 0.
        """
        if self.k is not None and self.k < 1:
            raise InputError(f"k={self.k}: ask for at least one photo")
        if self.within is not None and not self.within >= 0:
            raise InputError(f"within={self.within}: give a number of bits, 0 or more")


def near_descriptors(
    index: Index, hasher: Hasher, descriptors: np.ndarray, reach: Reach, extra: int = 0
) -> list[Near]:
    """Return what is near each of descriptors float32 [Q, D]; arguments as of :func:`near_codes`."""
    distance = choose_distance(hasher, reach.distance)
    queries = hasher.index_queries(descriptors, distance)
    if queries is None:
        return _near_compared(index, hasher, descriptors, reach, extra)
    return near_codes(index, queries, reach, extra, distance)


def near_codes(
    index: Index, queries: np.ndarray, reach: Reach, extra: int = 0, distance: Any = "hamming"
) -> list[Near]:
    """Return what is near each query.

    Args:
        index: Searched.
        queries: uint8 [Q, bits // 8] codes, or for ``asymmetric`` float32 [Q, bits] projections.
        reach: How much is wanted.
        extra: So many more, since some of them may not count.
        distance: ``hamming`` or ``asymmetric``.
    """
    most = None if reach.most is None else reach.most + extra
    if reach.within is not None:
        found = index.range_search(queries, reach.within, most, distance)
        spans = [slice(found.offsets[q], found.offsets[q + 1]) for q in range(len(queries))]
        return [Near(found.distances[span], found.ids[span]) for span in spans]
    assert most is not None
    distances, ids = index.search(queries, min(most, max(1, len(index))), distance)
    return [Near(d[i >= 0], i[i >= 0]) for d, i in zip(distances, ids, strict=True)]


def _near_compared(
    index: Index, hasher: Hasher, descriptors: np.ndarray, reach: Reach, extra: int
) -> list[Near]:
    """Do the same for a distance that no index knows (product quantisation), comparing every code."""
    from niphash.search.exact import search_exhaustively

    ids = index.ids
    source = code_distances(hasher, descriptors, index.get(ids), distance="asymmetric")
    most = len(ids) if reach.most is None else min(len(ids), reach.most + extra)
    distances, rows = search_exhaustively(source, max(1, most))
    kept = (rows >= 0) & (True if reach.within is None else distances <= reach.within)
    return [Near(d[keep], ids[r[keep]]) for d, r, keep in zip(distances, rows, kept, strict=True)]
