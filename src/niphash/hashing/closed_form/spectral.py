"""Spectral hashing: signs of the smoothest analytical eigenfunctions along the principal axes."""

from collections.abc import Mapping

import numpy as np
import torch

from niphash.hashing.checks import check_rank
from niphash.hashing.signs import ClosedFormHasher, principal_axes


class SpectralHashing(ClosedFormHasher):
    """Weiss, Torralba & Fergus, *Spectral Hashing* (NIPS 2008), section 3 and its box-shaped density.

    Along a principal axis whose values span [a, b] the k-th eigenfunction of the one-dimensional Laplacian is
    sin(pi / 2 + k pi (v - a) / (b - a)), with an eigenvalue that grows with (k / (b - a))^2; the ``bits``
    functions of smallest eigenvalue over all axes are kept, the constant (k = 0) left out.

    Args:
        bits: Length of a code; as many principal axes are taken.
        seed: Seed of the sample and of the randomised PCA of large descriptors.
        fit_limit: Fit on a random sample of at most this many descriptors.
    """

    def check(self, dim: int, count: int) -> None:
        """See :meth:`Hasher.check`: there must be as many principal axes as bits."""
        check_rank(self.bits, dim, min(count, self.fit_limit), "spectral hashing")

    def solve(self, centred: np.ndarray) -> dict[str, torch.Tensor]:
        """Return ``axes`` [D, bits], ``low`` [bits] and ``frequency`` [bits], all float32."""
        axes = principal_axes(centred, self.bits, self.seed)  # [D, bits]
        values = centred @ axes
        low, span = values.min(axis=0), np.maximum(np.ptp(values, axis=0), 1e-12)
        axis, mode = smoothest_modes(span, self.bits)
        return {
            "axes": torch.from_numpy(np.ascontiguousarray(axes[:, axis])),
            "low": torch.from_numpy(low[axis]),
            "frequency": torch.from_numpy((mode * np.pi / span[axis]).astype(np.float32)),
        }

    def project_centred(self, centred: torch.Tensor) -> torch.Tensor:
        """Return the eigenfunctions at centred descriptors, float32 [B, bits]."""
        values = centred @ self.state["axes"]  # [B, bits]
        return torch.cos((values - self.state["low"]) * self.state["frequency"])

    def code_length(self, state: Mapping[str, torch.Tensor]) -> int:
        """Return the number of eigenfunctions."""
        return len(state["low"])


def smoothest_modes(spans: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``count`` pairs (axis, k >= 1) of smallest k / span: two int64 [count], smoothest first."""
    modes = np.arange(1, count + 1)
    rate = modes[None, :] / spans[:, None].astype(np.float64)  # [axes, count]
    chosen = np.argsort(rate, axis=None, kind="stable")[:count]
    axis, mode = np.unravel_index(chosen, rate.shape)
    return axis, mode + 1
