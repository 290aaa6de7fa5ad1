"""Hashing by hyperplanes: the common part of every method whose bit is the sign of one projection."""

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import torch

from niphash.hashing.centred import CentredHasher, ClosedFormHasher


class ProjectionHasher(CentredHasher):
    """bit_j = [w_j . (x - mean) > 0]; the state holds ``mean`` [D] and ``projection`` [D, bits].

    Args:
        bits: Length of a code.
        seed: Seed of everything random.
    """

    def project_centred(self, centred: torch.Tensor) -> torch.Tensor:
        """Return the projections float32 [B, bits] of centred descriptors."""
        return centred @ self.state["projection"]

    def code_length(self, state: Mapping[str, torch.Tensor]) -> int:
        """Return the number of hyperplanes."""
        return state["projection"].shape[1]


class ClosedFormProjection(ClosedFormHasher, ProjectionHasher):
    """Hyperplanes that are computed at one go; arguments as of :class:`ClosedFormHasher`."""

    @abstractmethod
    def compute_projection(self, centred: np.ndarray) -> np.ndarray:
        """Return float [D, bits] from centred float32 [N, D] fit descriptors, which may be overwritten."""

    def solve(self, centred: np.ndarray) -> dict[str, torch.Tensor]:
        """Return ``projection`` [D, bits]."""
        projection = np.ascontiguousarray(self.compute_projection(centred), np.float32)
        return {"projection": torch.from_numpy(projection)}


def principal_axes(centred: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the leading principal axes of centred float32 [N, D] as the columns of float32 [D, count]."""
    from sklearn.decomposition import PCA

    return PCA(count, random_state=seed).fit(centred).components_.T.astype(np.float32)
