"""How the codes of a hashing method are compared."""

from typing import Literal

import numpy as np

from niphash.errors import InputError
from niphash.hashing.hasher import DistanceName, Hasher
from niphash.search.distances import (
    AsymmetricDistances,
    Distances,
    HammingDistances,
    WeightedHammingDistances,
)

#: ``"auto"``: the distance that suits the hashing method best.
DistanceChoice = Literal["auto", "hamming", "asymmetric"]


def choose_distance(hasher: Hasher, choice: DistanceChoice) -> DistanceName:
    """Return the distance that codes of ``hasher`` are compared by.

    Raises:
        InputError: such a distance means nothing on its codes.
    """
    if choice == "auto":
        return hasher.distances[0]
    if choice not in hasher.distances:
        raise InputError(
            f"distance={choice}: codes of {type(hasher).__name__} are compared by "
            f"{' or '.join(hasher.distances)}; choose that, or distance=auto"
        )
    return choice


def code_distances(
    hasher: Hasher,
    queries: np.ndarray,
    codes: np.ndarray,
    readable: np.ndarray | None = None,
    distance: DistanceChoice = "auto",
) -> Distances:
    """Return the distances of described queries to a database of codes.

    Args:
        hasher: Fitted; made the codes.
        queries: float [Q, D] descriptors; a NaN row finds nothing.
        codes: uint8 [N, bits // 8].
        readable: bool [N], rows of ``codes`` that are codes at all; all of them when not given.
        distance: See :func:`choose_distance`.

    Raises:
        InputError: the distance means nothing on these codes.
    """
    readable_queries = np.isfinite(queries[:, 0])
    if choose_distance(hasher, distance) == "hamming":
        query_codes = spread(hasher.encode(queries[readable_queries]), readable_queries)
        return HammingDistances(query_codes, codes, readable, readable_queries)
    projections = hasher.project(queries[readable_queries])
    if projections is not None:
        return WeightedHammingDistances(spread(projections, readable_queries, np.nan), codes, readable)
    return AsymmetricDistances(hasher.asymmetric_distances, queries, codes, readable)


def spread(rows: np.ndarray, places: np.ndarray, filling: float = 0) -> np.ndarray:
    """Return [N, ...] that holds ``rows`` [n, ...] at the n true ``places``, bool [N], else ``filling``."""
    spread_out = np.full((len(places), *rows.shape[1:]), filling, rows.dtype)
    spread_out[places] = rows
    return spread_out


def distance_ratios(distances: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return ``distances`` over ``others``, float64 of their common shape; 1 where both are 0.

    Of the nearest photo and the next one it says how far the first stands out, on one scale for all queries:
    in a dense region strangers are near, in an empty one even a copy is far (the ratio of Lowe, IJCV 2004,
    section 7.1, there of local descriptors).

    Args:
        distances: 0 or more, infinite where nothing was found.
        others: The same, of the photos that they are compared with.
    """
    distances, others = np.maximum(distances, 0.0), np.maximum(others, 0.0)
    distances, others = np.broadcast_arrays(distances, others)
    start = np.where(distances > others, np.inf, 1.0)  # where there is nothing to divide by
    return np.divide(distances, others, out=start, where=(others > 0) & np.isfinite(distances))
