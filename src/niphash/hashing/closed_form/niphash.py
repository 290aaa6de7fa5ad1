"""Our own hashing: whitening learned from views and neighbours, then an orthonormal frame of hyperplanes."""

from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh

from niphash.errors import InputError
from niphash.hashing.checks import check_dim, check_number
from niphash.hashing.closed_form.itq import random_rotation
from niphash.hashing.pairs import check_pairs, matching_groups
from niphash.hashing.signs import ProjectionHasher
from niphash.training.fit_data import FitData
from niphash.training.rows import blocks, fit_mean
from niphash.training.trainer import TrainerFactory

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


class NIPHash(ProjectionHasher):
    """bit_j = [w_j . (x - mean) > 0], hyperplanes drawn in a space where what views change is small.

    1. Each fit photo and its random views make a group; their differences from the group's mean are what a
       code should not see.
    2. Whitening by their covariance, shrunk, keeps the ``bits`` directions in which photos differ most in
       proportion (:mod:`niphash.hashing.closed_form.niphash`).
    3. In that space, groups that are mutual neighbours and far more similar than chance are taken for photos
       of one thing, as unsupervised triplet hashing does with neighbours in the descriptor's space; their
       differences join those of the views, and the whitening is learned once more.
    4. The bits are the signs along a random orthonormal frame: every bit carries all directions, with the
       most telling ones weighing most, and is balanced about the mean of the fit set.

    The whole is one matrix, so a code costs one product. No label and no gradient is used.

    Args:
        bits: Length of a code.
        seed: Seed of everything random.
        fit_limit: The projection is computed on whole groups of at most this many descriptors, the
            mean on all.
        rank: Principal components of the fit descriptors that the whitening is learned in.
        shrinkage: Of the covariance inside groups towards a multiple of the identity, 0 to 1.
        neighbours: Length of a photo's list of mutual neighbours; 0 learns from views alone.
        significance: How much more similar than chance neighbours must be, in robust standard deviations.
    """

    needs_pairs = True
    distances = ("asymmetric", "hamming")

    def __init__(
        self,
        bits: int,
        seed: int = 0,
        fit_limit: int = 4096,
        rank: int = 2048,
        shrinkage: float = 0.5,
        neighbours: int = 8,
        significance: float = 6.0,
    ) -> None:
        super().__init__(bits, seed)
        self.fit_limit = check_number("fit_limit", fit_limit, least=2, whole=True)
        self.rank = check_number("rank", rank, least=1, whole=True)
        self.shrinkage = check_number("shrinkage", shrinkage, above=0, most=1)
        self.neighbours = check_number("neighbours", neighbours, least=0, whole=True)
        self.significance = check_number("significance", significance, least=0)
        self._found = {"groups": 0, "neighbour_pairs": 0}

    def check(self, dim: int, count: int) -> None:
        """See :meth:`Hasher.check`."""
        check_dim(self.bits, dim)
        if count < 4:
            raise InputError(f"{count} fit descriptors are too few for hashing=niphash; give at least 4")

    def check_pairs(self, pairs: np.ndarray | None, count: int) -> None:
        """See :meth:`Hasher.check_pairs`."""
        check_pairs(pairs, count)

    def fit(self, data: FitData, trainer: TrainerFactory | None = None) -> None:
        """See :meth:`Hasher.fit`; ``pairs`` are needed, a photo and its view or two photos of one thing."""
        descriptors, pairs = data.rows, data.pairs
        mean = fit_mean(descriptors)
        self.check(descriptors.shape[1], len(descriptors))
        groups = matching_groups(check_pairs(pairs, len(descriptors)), len(descriptors))
        rows = sample_groups(groups, self.fit_limit, self.seed)
        sample = np.concatenate(list(blocks(descriptors[rows]))) - mean
        span = principal_span(sample, self.rank)  # [D, r]
        numbers = np.unique(groups[rows], return_inverse=True)[1]
        axes = self._whitening((sample @ span).astype(np.float64), numbers)  # [r, d]
        axes = oriented(span @ axes.astype(np.float32))  # [D, d]
        frame = random_rotation(self.bits, np.random.default_rng(self.seed))[: axes.shape[1]]  # [d, bits]
        projection = axes @ frame
        self.load_state_dict({"mean": torch.from_numpy(mean), "projection": torch.from_numpy(projection)})

    def _whitening(self, points: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return the axes [r, d], d = min(bits, r), learned from points [N, r]."""
        total = scatter(points)
        means = group_means(points, groups)
        inside = points - means[groups]
        within = scatter(inside) if inside.any() else np.eye(len(total)) / len(total)
        count = min(self.bits, len(total))
        axes = whitening_axes(total, within, self.shrinkage, count)
        pairs = mutual_neighbours(means @ axes, self.neighbours, self.significance)
        self._found = {"groups": len(means), "neighbour_pairs": len(pairs)}
        if len(pairs):
            within = within + scatter(means[pairs[:, 0]] - means[pairs[:, 1]])
            axes = whitening_axes(total, within, self.shrinkage, count)
        return axes

    def log_config(self) -> dict[str, Any]:
        """Return how many groups of views, and how many pairs of neighbours among them, were learned from."""
        return dict(self._found)
