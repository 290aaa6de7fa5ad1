"""Hashing by signs: the common part of every method but product quantisation."""

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import torch

from niphash.hashing.checks import blocks, check_shape
from niphash.hashing.codes import pack_bits
from niphash.hashing.hasher import DistanceName, Hasher


class SignHasher(Hasher):
    """bit_j = [projection_j > 0].

    A database image keeps its bits alone; a query still has its projections, and an asymmetric distance
    (:class:`niphash.search.distances.WeightedHammingDistances`) counts a bit for less the closer the query
    lies to its threshold.
    """

    distances: tuple[DistanceName, ...] = ("hamming", "asymmetric")

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of components of a descriptor; 0 before a fit."""

    @abstractmethod
    def project_block(self, block: torch.Tensor) -> torch.Tensor:
        """Return float32 [B, bits], whose signs are the bits, for descriptors float32 [B, D]."""

    def encode(self, descriptors: np.ndarray) -> np.ndarray:
        """See :meth:`Hasher.encode`; an array or a memory map, read in blocks.

        Raises:
            InputError: another number of dimensions than at the fit, or NaN.
        """
        parts = [pack_bits(projections > 0) for projections in self._projections(descriptors)]
        return np.concatenate(parts) if parts else np.empty((0, self.bits // 8), np.uint8)

    def project(self, descriptors: np.ndarray) -> np.ndarray:
        """Return float32 [N, bits], whose signs are the bits (errors as :meth:`encode`)."""
        return np.concatenate([np.empty((0, self.bits), np.float32), *self._projections(descriptors)])

    def _projections(self, descriptors: np.ndarray) -> Iterator[np.ndarray]:
        check_shape(descriptors, self.dim)
        for block in blocks(descriptors):
            with torch.inference_mode():
                yield self.project_block(torch.from_numpy(block)).cpu().numpy()
