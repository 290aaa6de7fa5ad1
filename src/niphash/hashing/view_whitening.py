"""Learned whitening from views: the directions in which photos differ more than views of one photo do.

A *group* is a photo and its random views (or photos that are known to match). Its spread is what a code
should not see. Mikolajczyk & Matas, *Improving descriptors for fast tree matching by optimal linear
projection* (ICCV 2007), learn the projection that divides it out from labelled pairs; Radenovic, Tolias &
Chum (TPAMI 2019, section 4.2) from the matches of a 3-D reconstruction. Here views and mutual neighbours are
the matches, so no label is needed.

With fewer fit descriptors than dimensions D all is done in their span: no matrix is D x D.
"""

import numpy as np
from scipy.linalg import eigh

SMALLEST_SHARE = 1e-6  # variances below this share of the largest are rounding
DEVIATION = 1.4826  # standard deviation of a Gaussian over its median absolute deviation


def sample_groups(groups: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Return the rows int64 [M <= limit], ascending, of whole groups drawn at random.

    Args:
        groups: int64 [N], the group of each row, numbered from 0.
        limit: All rows are returned when there are no more.
        seed: Of the draw.
    """
    if len(groups) <= limit:
        return np.arange(len(groups))
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    taken = order[np.cumsum(np.bincount(groups)[order]) <= limit]
    return np.flatnonzero(np.isin(groups, taken))


def principal_span(centred: np.ndarray, rank: int) -> np.ndarray:
    """Return at most ``rank`` orthonormal principal axes, float32 [D, r], of centred float32 [N, D].

    The smaller of Gram and covariance matrix is decomposed; axes without variance are left out.
    """
    count, dim = centred.shape
    dual = count < dim
    products = (centred @ centred.T if dual else centred.T @ centred).astype(np.float64)
    size = len(products)
    values, vectors = eigh(products, subset_by_index=[max(0, size - rank), size - 1])
    kept = values > SMALLEST_SHARE * values[-1]
    vectors, values = vectors[:, kept][:, ::-1], values[kept][::-1]
    axes = centred.T @ (vectors / np.sqrt(values)).astype(np.float32) if dual else vectors
    return axes.astype(np.float32)


def group_means(points: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the mean [G, r] of the points [N, r] of each of G groups, numbered 0 ... G - 1."""
    sums = np.zeros((groups.max() + 1, points.shape[1]))
    np.add.at(sums, groups, points)
    return sums / np.bincount(groups)[:, None]


def mutual_neighbours(points: np.ndarray, neighbours: int, significance: float) -> np.ndarray:
    """Return pairs int64 [P, 2] of points that are among each other's nearest, and unusually similar.

    Args:
        points: [G, r]; similarity is the cosine.
        neighbours: Length of a point's list of nearest points.
        significance: Least similarity, in robust standard deviations above the median of all pairs.
    """
    unit = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    similarity = (unit @ unit.T).astype(np.float32)  # [G, G]
    pairs = similarity[np.triu_indices(len(unit), 1)]
    middle = np.median(pairs)
    least = middle + significance * DEVIATION * np.median(np.abs(pairs - middle))
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]
    listed = np.zeros(similarity.shape, bool)
    np.put_along_axis(listed, nearest, True, axis=1)
    return np.argwhere(np.triu(listed & listed.T & (similarity > least), 1))


def scatter(differences: np.ndarray) -> np.ndarray:
    """Return the second moments [r, r] of [P, r] differences, scaled to trace 1."""
    moments = differences.T @ differences
    return moments / np.trace(moments)


def oriented(axes: np.ndarray) -> np.ndarray:
    """Return axes [D, d], each turned so that its component of largest size is positive.

    An eigenvector comes with either sign, as rounding and the number of threads decide.
    """
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return axes * np.sign(largest)


def whitening_axes(total: np.ndarray, within: np.ndarray, shrinkage: float, count: int) -> np.ndarray:
    """Return the ``count`` axes [r, count] v of largest v'Tv / v'Wv, scaled to v'Wv = 1.

    Args:
        total: T, second moments [r, r] of all points.
        within: Second moments [r, r] of differences inside groups.
        shrinkage: W is this share of a multiple of the identity of equal trace, and ``within`` for the rest;
            few differences say nothing about most directions.
        count: At most r.
    """
    rank = len(total)
    ball = np.trace(within) / rank * np.eye(rank)
    shrunk = (1 - shrinkage) * within + shrinkage * ball
    axes = eigh(total, shrunk, subset_by_index=[rank - count, rank - 1])[1]
    return axes[:, ::-1]
