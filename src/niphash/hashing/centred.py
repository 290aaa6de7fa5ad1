"""Hashing of centred descriptors: the common part of every method whose state is a mean and a few tensors."""

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import torch

from niphash.errors import InputError
from niphash.hashing.checks import check_bits, check_number, fit_mean, sample_rows
from niphash.hashing.hasher import TrainerFactory
from niphash.hashing.signs import SignHasher


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

    def recenter(self, descriptors: np.ndarray) -> None:
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
        centred = sample_rows(descriptors, self.fit_limit, self.seed) - mean
        self.load_state_dict({"mean": torch.from_numpy(mean), **self.solve(centred)})
