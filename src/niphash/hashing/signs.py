"""Hashing by signs: the common part of every method but product quantisation."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from niphash.errors import InputError
from niphash.hashing.checks import check_bits, check_number, check_shape
from niphash.hashing.codes import pack_bits
from niphash.hashing.hasher import DistanceName, Hasher
from niphash.training.fit_data import FitData
from niphash.training.rows import Rows, blocks, fit_mean, sample_rows
from niphash.training.trainer import TrainerFactory


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

    def encode(self, descriptors: Rows) -> np.ndarray:
        """See :meth:`Hasher.encode`; an array or a memory map, read in blocks.

        Raises:
            InputError: another number of dimensions than at the fit, or NaN.
        """
        parts = [pack_bits(projections > 0) for projections in self._projections(descriptors)]
        return np.concatenate(parts) if parts else np.empty((0, self.bits // 8), np.uint8)

    def project(self, descriptors: np.ndarray) -> np.ndarray:
        """Return float32 [N, bits], whose signs are the bits (errors as :meth:`encode`)."""
        return np.concatenate([np.empty((0, self.bits), np.float32), *self._projections(descriptors)])

    def _projections(self, descriptors: Rows) -> Iterator[np.ndarray]:
        check_shape(descriptors, self.dim)
        for block in blocks(descriptors):
            with torch.inference_mode():
                yield self.project_block(torch.from_numpy(block)).cpu().numpy()


class CentredHasher(SignHasher):
    """Bits of x - mean, computed from a few tensors that :attr:`state` holds together with ``mean`` [D].

    Args:
        bits: Length of a code.
        seed: Seed of everything random.
    """

    def __init__(self, bits: int, seed: int = 0) -> None:
        self.bits = check_bits(bits)
        self.seed = seed
        #: Everything learned; empty before a fit.
        self.state: dict[str, torch.Tensor] = {}

    @abstractmethod
    def project_centred(self, centred: torch.Tensor) -> torch.Tensor:
        """Return float32 [B, bits], whose signs are the bits, for centred descriptors float32 [B, D]."""

    @abstractmethod
    def code_length(self, state: Mapping[str, torch.Tensor]) -> int:
        """Return the length of the codes that the tensors of ``state`` make."""

    @property
    def dim(self) -> int:
        """See :attr:`SignHasher.dim`."""
        return len(self.state.get("mean", ()))

    def project_block(self, block: torch.Tensor) -> torch.Tensor:
        """See :meth:`SignHasher.project_block`."""
        return self.project_centred(block - self.state["mean"])

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return ``mean`` float32 [D] and the tensors that the method's class names."""
        return dict(self.state)

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` returned.

        Raises:
            InputError: the state belongs to another code length.
        """
        if (bits := self.code_length(state)) != self.bits:
            raise InputError(f"this model makes codes of {bits} bits, not bits={self.bits}")
        self.state = {key: value.clone() for key, value in state.items()}

    def recenter(self, descriptors: Rows) -> None:
        """Centre on the mean of ``descriptors``, float [N, D]."""
        self.state["mean"] = torch.from_numpy(fit_mean(descriptors))


class ClosedFormHasher(CentredHasher):
    """A method that is computed at one go from a sample that fits into memory.

    Args:
        bits: Length of a code.
        seed: Seed of everything random, the sample among it.
        fit_limit: The tensors are computed on a random sample of at most this many descriptors; the mean
            always on all of them.
    """

    def __init__(self, bits: int, seed: int = 0, fit_limit: int = 20_000) -> None:
        super().__init__(bits, seed)
        self.fit_limit = check_number("fit_limit", fit_limit, least=2, whole=True)

    @abstractmethod
    def solve(self, centred: np.ndarray) -> dict[str, torch.Tensor]:
        """Return the tensors of the state, but for the mean.

        Args:
            centred: float32 [N, D] fit descriptors less their mean, which may be overwritten.
        """

    def fit(self, data: FitData, trainer: TrainerFactory | None = None) -> None:
        """See :meth:`Hasher.fit`; only the rows are used."""
        mean = fit_mean(data.rows)
        self.check(data.dim, data.count)
        centred = sample_rows(data.rows, self.fit_limit, self.seed) - mean
        self.load_state_dict({"mean": torch.from_numpy(mean), **self.solve(centred)})


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
