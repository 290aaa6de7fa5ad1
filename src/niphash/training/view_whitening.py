"""Whitening learned from views: directions in which photos differ most, beside how much views change them.

Learned whitening of Mikolajczyk & Matas (ICCV 2007) and Radenovic, Tolias & Chum (PAMI 2019), with random
views and mutual neighbours in place of labels.
"""

from typing import NamedTuple

import numpy as np

from niphash.errors import InputError
from niphash.training.fit_data import FitData
from niphash.training.pairs import check_pairs, matching_groups
from niphash.training.rows import blocks, fit_mean

SMALLEST_SHARE = 1e-6  # variances below this share of the largest are rounding
DEVIATION = 1.4826  # standard deviation of a Gaussian over its median absolute deviation
FEWEST = 4  # rows: two things, each seen twice


class ViewWhitened(NamedTuple):
    """What is learned from views.

    Attributes:
        mean: float32 [D], of all fit descriptors.
        axes: float32 [D, d], most telling direction first.
        groups: How many photos (with their views) it was learned from.
        neighbours: How many pairs of neighbours were found among them.
    """

    mean: np.ndarray
    axes: np.ndarray
    groups: int
    neighbours: int


def fit_view_whitening(
    data: FitData,
    dim: int,
    rank: int,
    shrinkage: float,
    neighbours: int,
    significance: float,
    limit: int,
    seed: int,
) -> ViewWhitened:
    """Return the directions in which groups of rows differ most in proportion to what varies inside them.

    1. Rows linked by pairs (a photo and its views) are a group; differences from its mean are what a
       descriptor should not see.
    2. In the span of the rows, whitening by the covariance of those differences, shrunk, keeps the ``dim``
       directions of largest variance.
    3. There, groups that are mutual neighbours and far more similar than chance are taken for photos of one
       thing; their differences join those of the views, and the whitening is learned once more.

    Args:
        data: Rows [N, D] and pairs.
        dim: d; fewer directions are returned where the rows span fewer.
        rank: Principal components of the rows that the whitening is learned in.
        shrinkage: Of the covariance inside groups towards a multiple of the identity, above 0 and up to 1.
        neighbours: Length of a group's list of mutual neighbours; 0 learns from views alone.
        significance: How much more similar than chance neighbours must be, in robust standard deviations.
        limit: The axes are computed on whole groups of at most this many rows, the mean on all.
        seed: Seed of the groups drawn.

    Raises:
        InputError: no pairs or bad ones, fewer than :data:`FEWEST` rows, all rows alike, NaN.
    """
    mean = fit_mean(data.rows)
    if data.count < FEWEST:
        raise InputError(
            f"{data.count} fit descriptors are too few for whitening by views; give {FEWEST} or more"
        )
    groups = matching_groups(check_pairs(data.pairs, data.count), data.count)
    rows = sample_groups(groups, limit, seed)
    sample = np.concatenate(list(blocks(data.rows[rows]))) - mean
    if not sample.any():
        raise InputError("all fit descriptors are alike, so there is no whitening; fit on other photos")
    span = principal_span(sample, rank)  # [D, r]
    numbers = np.unique(groups[rows], return_inverse=True)[1]
    points = (sample @ span).astype(np.float64)  # [N, r]
    total, means = scatter(points), group_means(points, numbers)
    inside = points - means[numbers]
    within = scatter(inside) if inside.any() else np.eye(len(total)) / len(total)
    count = min(dim, len(total))
    axes = whitening_axes(total, within, shrinkage, count)  # [r, d]
    pairs = mutual_neighbours(means @ axes, neighbours, significance)
    if len(pairs):
        within = within + scatter(means[pairs[:, 0]] - means[pairs[:, 1]])
        axes = whitening_axes(total, within, shrinkage, count)
    return ViewWhitened(mean, oriented(span @ axes.astype(np.float32)), len(means), len(pairs))


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
    from scipy.linalg import eigh

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
    if len(points) < 2:
        return np.empty((0, 2), np.int64)
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
    from scipy.linalg import eigh

    rank = len(total)
    ball = np.trace(within) / rank * np.eye(rank)
    shrunk = (1 - shrinkage) * within + shrinkage * ball
    axes = eigh(total, shrunk, subset_by_index=[rank - count, rank - 1])[1]
    return axes[:, ::-1]
