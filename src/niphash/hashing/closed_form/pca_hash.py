"""PCA hashing with a random rotation: every bit is a mixture of all principal components."""

import numpy as np

from niphash.hashing.closed_form.itq import random_rotation
from niphash.hashing.closed_form.pca_sign import PCASign


class PCAHash(PCASign):
    """Signs of randomly rotated principal components ("Hashing-Baseline", arXiv 2509.14427).

    It is what ITQ starts from: the rotation spreads the variance of the leading components over all bits, and
    nothing is learned but the components.
    """

    def compute_projection(self, centred: np.ndarray) -> np.ndarray:
        """Return the rotated principal axes, float32 [D, bits]."""
        axes = super().compute_projection(centred)
        return axes @ random_rotation(self.bits, np.random.default_rng(self.seed))
