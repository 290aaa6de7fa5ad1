"""Spectral hashing: signs of the smoothest analytical eigenfunctions along the principal axes."""

import numpy as np
import torch

from niphash.errors import InputError
from niphash.hashing.checks import check_bits, check_rank, check_shape, encode_blocks, fit_mean, sample_rows
from niphash.hashing.hasher import Hasher, TrainerFactory
from niphash.hashing.projection import principal_axes


class SpectralHashing(Hasher):
    """Weiss, Torralba & Fergus, *Spectral Hashing* (NIPS 2008), section 3 and its box-shaped density.

    Along a principal axis whose values span [a, b] the k-th eigenfunction of the one-dimensional Laplacian is
    sin(pi / 2 + k pi (v - a) / (b - a)), with an eigenvalue that grows with (k / (b - a))^2; the ``bits``
    functions of smallest eigenvalue over all axes are kept, the constant (k = 0) left out.

    Args:
        bits: Length of a code; as many principal axes are taken.
        seed: Seed of the sample and of the randomised PCA of large descriptors.
        fit_limit: Fit on a random sample of at most this many descriptors.
    """

    def __init__(self, bits: int, seed: int = 0, fit_limit: int = 20_000) -> None:
        self.bits = check_bits(bits)
        self.seed = seed
        self.fit_limit = fit_limit
        self.state: dict[str, torch.Tensor] = {}

    def check(self, dim: int, count: int) -> None:
        """See :meth:`Hasher.check`: there must be as many principal axes as bits."""
        check_rank(self.bits, dim, min(count, self.fit_limit), "spectral hashing")

    def fit(
        self,
        descriptors: np.ndarray,
        pairs: np.ndarray | None = None,
        trainer: TrainerFactory | None = None,
        validation: np.ndarray | None = None,
    ) -> None:
        """See :meth:`Hasher.fit`; only ``descriptors`` are used."""
        mean = fit_mean(descriptors)
        self.check(descriptors.shape[1], len(descriptors))
        sample = sample_rows(descriptors, self.fit_limit, self.seed) - mean
        axes = principal_axes(sample, self.bits, self.seed)  # [D, bits]
        values = sample @ axes
        low, span = values.min(axis=0), np.maximum(np.ptp(values, axis=0), 1e-12)
        axis, mode = smoothest_modes(span, self.bits)
        self.state = {
            "mean": torch.from_numpy(mean),
            "axes": torch.from_numpy(np.ascontiguousarray(axes[:, axis])),
            "low": torch.from_numpy(low[axis]),
            "frequency": torch.from_numpy((mode * np.pi / span[axis]).astype(np.float32)),
        }

    def encode(self, descriptors: np.ndarray) -> np.ndarray:
        """See :meth:`Hasher.encode`."""
        check_shape(descriptors, len(self.state.get("mean", ())))
        return encode_blocks(descriptors, self._bits, self.bits)

    def _bits(self, block: torch.Tensor) -> torch.Tensor:
        values = (block - self.state["mean"]) @ self.state["axes"]  # [B, bits]
        return torch.cos((values - self.state["low"]) * self.state["frequency"]) > 0

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return ``mean`` [D], ``axes`` [D, bits], ``low`` [bits] and ``frequency`` [bits], all float32."""
        return dict(self.state)

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` returned.

        Raises:
            InputError: the state belongs to another code length.
        """
        if len(state["low"]) != self.bits:
            raise InputError(f"this model makes codes of {len(state['low'])} bits, not bits={self.bits}")
        self.state = {key: value.clone() for key, value in state.items()}


def smoothest_modes(spans: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``count`` pairs (axis, k >= 1) of smallest k / span: two int64 [count], smoothest first."""
    modes = np.arange(1, count + 1)
    rate = modes[None, :] / spans[:, None].astype(np.float64)  # [axes, count]
    chosen = np.argsort(rate, axis=None, kind="stable")[:count]
    axis, mode = np.unravel_index(chosen, rate.shape)
    return axis, mode + 1
