"""PCA hashing: signs of the leading principal components."""

import numpy as np

from niphash.hashing.checks import check_rank
from niphash.hashing.projection import ProjectionHasher, principal_axes


class PCASign(ProjectionHasher):
    """Signs of the leading principal components (PCA-Direct of Gong & Lazebnik 2011)."""

    def check(self, count: int, dim: int) -> None:
        """Raise an InputError when there are fewer principal axes than bits."""
        check_rank(self.bits, count, dim, "PCA")

    def compute_projection(self, centred: np.ndarray) -> np.ndarray:
        """Return the principal axes, float32 [D, bits]."""
        return principal_axes(centred, self.bits, self.seed)
