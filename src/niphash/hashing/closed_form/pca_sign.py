"""PCA hashing: signs of the leading principal components."""

import numpy as np

from niphash.hashing.checks import check_rank
from niphash.hashing.signs import ClosedFormProjection, principal_axes


class PCASign(ClosedFormProjection):
    """Signs of the leading principal components (PCA-Direct of Gong & Lazebnik 2011)."""

    def check(self, dim: int, count: int) -> None:
        """See :meth:`Hasher.check`: there must be as many principal axes as bits."""
        check_rank(self.bits, dim, min(count, self.fit_limit), "PCA")

    def compute_projection(self, centred: np.ndarray) -> np.ndarray:
        """Return the principal axes, float32 [D, bits]."""
        return principal_axes(centred, self.bits, self.seed)
