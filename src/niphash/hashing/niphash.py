"""Our own hashing: whitening learned from views and neighbours, then an orthonormal frame of hyperplanes."""

from typing import Any

import numpy as np
import torch

from niphash.errors import InputError
from niphash.hashing.checks import blocks, check_dim, check_number, fit_mean
from niphash.hashing.hasher import TrainerFactory
from niphash.hashing.itq import random_rotation
from niphash.hashing.pairs import check_pairs, matching_groups
from niphash.hashing.projection import ProjectionHasher
from niphash.hashing.view_whitening import (
    group_means,
    mutual_neighbours,
    oriented,
    principal_span,
    sample_groups,
    scatter,
    whitening_axes,
)


class NIPHash(ProjectionHasher):
    """bit_j = [w_j . (x - mean) > 0], hyperplanes drawn in a space where what views change is small.

    1. Each fit photo and its random views make a group; their differences from the group's mean are what a
       code should not see.
    2. Whitening by their covariance, shrunk, keeps the ``bits`` directions in which photos differ most in
       proportion (:mod:`niphash.hashing.view_whitening`).
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

    def fit(
        self,
        descriptors: np.ndarray,
        pairs: np.ndarray | None = None,
        trainer: TrainerFactory | None = None,
        validation: np.ndarray | None = None,
    ) -> None:
        """See :meth:`Hasher.fit`; ``pairs`` are needed, a photo and its view or two photos of one thing."""
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
