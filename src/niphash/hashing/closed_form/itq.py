"""Iterative quantisation: PCA, then the rotation that brings the components closest to their signs."""

import numpy as np

from niphash.hashing.checks import check_number
from niphash.hashing.closed_form.pca_sign import PCASign
from niphash.hashing.signs import principal_axes


class ITQ(PCASign):
    """Gong & Lazebnik, *Iterative Quantization* (CVPR 2011), sections 2.1-2.2.

    Args:
        bits: Length of a code.
        seed: Seed of the rotation that the iteration starts from.
        fit_limit: Fit on a random sample of at most this many descriptors.
        iterations: Alternations of rounding and Procrustes rotation.
    """

    def __init__(self, bits: int, seed: int = 0, fit_limit: int = 20_000, iterations: int = 50) -> None:
        super().__init__(bits, seed, fit_limit)
        self.iterations = check_number("iterations", iterations, least=0, whole=True)

    def compute_projection(self, centred: np.ndarray) -> np.ndarray:
        """Return the rotated principal axes, float32 [D, bits]."""
        axes = principal_axes(centred, self.bits, self.seed)
        return axes @ itq_rotation(centred @ axes, self.iterations, self.seed)


def itq_rotation(components: np.ndarray, iterations: int, seed: int) -> np.ndarray:
    """Return the rotation R, float32 [B, B], that lowers || sign(V R) - V R ||^2 at every alternation.

    (``faiss.ITQMatrix`` does not: on its iterates the error goes up and down.)

    Args:
        components: V, centred float32 [N, B].
        iterations: Alternations of rounding and Procrustes rotation.
        seed: Seed of the random rotation to start from.
    """
    bits = components.shape[1]
    rotation = random_rotation(bits, np.random.default_rng(seed))
    for _ in range(iterations):
        signs = np.where(components @ rotation > 0, np.float32(1), np.float32(-1))  # [N, B]
        left, _, right = np.linalg.svd(components.T @ signs)
        rotation = left @ right
    return rotation


def random_rotation(dim: int, generator: np.random.Generator) -> np.ndarray:
    """Return a random orthogonal float32 [dim, dim] matrix."""
    return np.linalg.qr(generator.standard_normal((dim, dim)))[0].astype(np.float32)
