"""Hashing by hyperplanes: the common part of every method whose bit is the sign of one projection."""

from abc import abstractmethod

import numpy as np
import torch

from niphash.errors import InputError
from niphash.hashing.checks import check_bits, check_shape, encode_blocks, fit_mean, sample_rows
from niphash.hashing.hasher import Hasher, TrainerFactory


class ProjectionHasher(Hasher):
    """bit_j = [w_j . (x - mean) > 0].

    Args:
        bits: Length of a code.
        seed: Seed of everything random.
    """

    def __init__(self, bits: int, seed: int = 0) -> None:
        self.bits = check_bits(bits)
        self.seed = seed
        self.mean = torch.empty(0)  # [D]
        self.projection = torch.empty(0, bits)  # [D, bits]

    def encode(self, descriptors: np.ndarray) -> np.ndarray:
        """See :meth:`Hasher.encode`.

        Raises:
            InputError: another number of dimensions than at the fit, or NaN.
        """
        check_shape(descriptors, len(self.projection))
        return encode_blocks(descriptors, lambda block: (block - self.mean) @ self.projection > 0, self.bits)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return ``mean`` float32 [D] and ``projection`` float32 [D, bits]."""
        return {"mean": self.mean, "projection": self.projection}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` returned.

        Raises:
            InputError: the state belongs to another code length.
        """
        if state["projection"].shape[1] != self.bits:
            raise InputError(
                f"this model makes codes of {state['projection'].shape[1]} bits, not bits={self.bits}"
            )
        self.mean = state["mean"].clone()
        self.projection = state["projection"].clone()

    def recenter(self, descriptors: np.ndarray) -> None:
        """Move every hyperplane through the mean of ``descriptors``, float [N, D]."""
        self.mean = torch.from_numpy(fit_mean(descriptors))


class ClosedFormHasher(ProjectionHasher):
    """Hyperplanes computed at one go from a sample that fits into memory.

    Args:
        bits: Length of a code.
        seed: Seed of everything random.
        fit_limit: The projection is computed on a random sample of at most this many descriptors; the mean
            always on all of them.
    """

    def __init__(self, bits: int, seed: int = 0, fit_limit: int = 20_000) -> None:
        super().__init__(bits, seed)
        self.fit_limit = fit_limit

    @abstractmethod
    def compute_projection(self, centred: np.ndarray) -> np.ndarray:
        """Return float32 [D, bits] from centred float32 [N, D] fit descriptors, which may be overwritten."""

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
        projection = np.ascontiguousarray(self.compute_projection(sample), np.float32)
        self.load_state_dict({"mean": torch.from_numpy(mean), "projection": torch.from_numpy(projection)})


def principal_axes(centred: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the leading principal axes of centred float32 [N, D] as the columns of float32 [D, count]."""
    from sklearn.decomposition import PCA

    return PCA(count, random_state=seed).fit(centred).components_.T.astype(np.float32)
