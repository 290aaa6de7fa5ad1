"""Our own hashing: whitening learned from views and neighbours, then an orthonormal frame of hyperplanes."""

from typing import Any

import numpy as np
import torch

from niphash.errors import InputError
from niphash.hashing.checks import check_dim, check_number
from niphash.hashing.closed_form.itq import random_rotation
from niphash.hashing.signs import ProjectionHasher
from niphash.training.fit_data import FitData
from niphash.training.pairs import check_pairs
from niphash.training.trainer import TrainerFactory
from niphash.training.view_whitening import FEWEST, fit_view_whitening


class NIPHash(ProjectionHasher):
    """bit_j = [w_j . (x - mean) > 0], hyperplanes drawn in a space where what views change is small.

    Two steps in one matrix: the whitening that ``whitening=views`` learns too
    (:func:`niphash.training.view_whitening.fit_view_whitening`), with as many axes as bits; then signs along
    a random orthonormal frame of them, so that every bit carries all directions, the most telling ones
    weighing most, and is balanced about the mean of the fit set. A code costs one product; no label and no
    gradient is used.

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
        if count < FEWEST:
            raise InputError(
                f"{count} fit descriptors are too few for hashing=niphash; give at least {FEWEST}"
            )

    def check_pairs(self, pairs: np.ndarray | None, count: int) -> None:
        """See :meth:`Hasher.check_pairs`."""
        check_pairs(pairs, count)

    def fit(self, data: FitData, trainer: TrainerFactory | None = None) -> None:
        """See :meth:`Hasher.fit`; ``pairs`` are needed, a photo and its view or two photos of one thing."""
        self.check(data.dim, data.count)
        found = fit_view_whitening(
            data,
            dim=self.bits,
            rank=self.rank,
            shrinkage=self.shrinkage,
            neighbours=self.neighbours,
            significance=self.significance,
            limit=self.fit_limit,
            seed=self.seed,
        )
        self._found = {"groups": found.groups, "neighbour_pairs": found.neighbours}
        # One product, not a stage and a hasher: a stage's L2 norm rounds bits at their threshold the other
        # way, and the float descriptor that is measured beside the code would be the whitened one.
        frame = random_rotation(self.bits, np.random.default_rng(self.seed))[: found.axes.shape[1]]
        projection = found.axes @ frame  # [D, bits]
        self.load_state_dict(
            {"mean": torch.from_numpy(found.mean), "projection": torch.from_numpy(projection)}
        )

    def log_config(self) -> dict[str, Any]:
        """Return how many groups of views, and how many pairs of neighbours among them, were learned from."""
        return dict(self._found)
