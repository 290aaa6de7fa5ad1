"""Locality-sensitive hashing: random hyperplanes through the fit mean."""

import numpy as np

from niphash.hashing.signs import ClosedFormProjection


class LSH(ClosedFormProjection):
    """Signs of Gaussian random projections (Charikar 2002); the only thing fitted is the mean.

    There may be more bits than dimensions.
    """

    def compute_projection(self, centred: np.ndarray) -> np.ndarray:
        """Return standard normal directions, float32 [D, bits]."""
        return np.random.default_rng(self.seed).standard_normal((centred.shape[1], self.bits), np.float32)
