"""Matching pairs: rows that show the same thing."""

import numpy as np

from niphash.errors import InputError


def check_pairs(pairs: np.ndarray | None, count: int) -> np.ndarray:
    """Return matching pairs as int64 [P, 2], checked to name two different ones of ``count`` images each.

    Raises:
        InputError: no pairs, or pairs that name missing images or one image twice.
    """
    if pairs is None or len(pairs) == 0:
        raise InputError(
            "no matching pairs to learn from; give fit.pairs=<csv>, fit.pairs=folders, or fit.views=1"
        )
    pairs = np.asarray(pairs, np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"matching pairs of shape {pairs.shape} cannot be used; give two images a row")
    outside = (pairs < 0) | (pairs >= count)
    if outside.any():
        pair = int(outside.any(axis=1).argmax())
        raise InputError(f"matching pair {pair} names a photo that is not among the {count} of the fit set")
    alike = pairs[:, 0] == pairs[:, 1]
    if alike.any():
        raise InputError(
            f"matching pair {int(alike.argmax())} names one photo twice; name two different ones"
        )
    return pairs


def matching_groups(pairs: np.ndarray, count: int) -> np.ndarray:
    """Return a group number int64 [count] for every image: images linked by pairs share one."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(links, directed=False)[1].astype(np.int64)
