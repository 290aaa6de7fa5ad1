"""Exact nearest neighbours by exhaustive search, equal distances ordered by id."""

import numpy as np

from niphash.progress import track
from niphash.search.distances import CosineDistances, Distances

_ID_BITS = 40  # and 23 for the distance
_NONE = np.iinfo(np.int64).max


class Nearest:
    """The k nearest database images of each query, gathered from blocks of distances.

    A candidate is one integer, distance * 2**40 + id, so the order of integers is the order of results.
    """

    def __init__(self, queries: int, k: int) -> None:
        if k < 1:
            raise ValueError(f"k is {k}; at least one neighbour has to be asked for")
        self._keys = np.full((queries, k), _NONE)  # ascending in each row

    def push(self, query: int, distances: np.ndarray, ids: np.ndarray) -> None:
        """Take in distances [n] to database images ``ids`` [n], all above the ids that came before."""
        keys, k = self._keys[query], self._keys.shape[1]
        if keys[-1] != _NONE:  # an equal distance loses against the smaller id that is already there
            near = np.flatnonzero(distances < int(keys[-1] >> _ID_BITS))
            if not near.size:
                return
            distances, ids = distances[near], ids[near]
        candidates = (distances.astype(np.int64) << _ID_BITS) | ids
        candidates = np.concatenate([keys, candidates])
        if len(candidates) > k:
            candidates = np.partition(candidates, k - 1)[:k]
        self._keys[query] = np.sort(candidates)

    @property
    def keys(self) -> np.ndarray:
        """int64 [Q, k], ascending: distance * 2**40 + id, the greatest int64 where there is no result."""
        return self._keys

    def result(self, source: Distances) -> tuple[np.ndarray, np.ndarray]:
        """Return distances as reported [Q, k] and ids int64 [Q, k]; where there are fewer, both are -1."""
        found = self._keys != _NONE
        distances = source.as_reported(self._keys >> _ID_BITS)
        distances[~found] = -1
        return distances, np.where(found, self._keys & ((1 << _ID_BITS) - 1), -1)


def search_exhaustively(source: Distances, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return distances as reported [Q, k] and ids int64 [Q, k], nearest first, equal distances by id.

    Where fewer than k images are readable the rest is distance -1 and id -1.
    """
    nearest = Nearest(source.queries, min(k, max(source.database, 1)))
    for block in track(source.blocks(), "search", source.steps):
        for query, row in zip(block.queries, block.distances, strict=True):
            nearest.push(query, row, block.ids)
    distances, ids = nearest.result(source)
    missing = ((0, 0), (0, k - ids.shape[1]))
    return np.pad(distances, missing, constant_values=-1), np.pad(ids, missing, constant_values=-1)


def search_descriptors(queries: np.ndarray, database: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest of each query by cosine distance: float32 [Q, k] and ids int64 [Q, k].

    Args:
        queries: float [Q, D], L2-normalised; a NaN row (unreadable photo) finds nothing.
        database: float [N, D], L2-normalised, an array or a memory map; a NaN row is never found.
        k: How many to return; what is missing is distance -1 and id -1.

    Raises:
        InputError: the dimensions differ, or a descriptor is not L2-normalised.
    """
    return search_exhaustively(CosineDistances(queries, database), k)
