"""No hashing: the float descriptor alone is searched and measured."""

import numpy as np
import torch

from niphash.errors import InputError
from niphash.hashing.hasher import Hasher, TrainerFactory


class NoHashing(Hasher):
    """The choice ``hashing=none``: :attr:`bits` is 0, and there is no code to measure or to index."""

    bits = 0

    def fit(
        self,
        descriptors: np.ndarray,
        pairs: np.ndarray | None = None,
        trainer: TrainerFactory | None = None,
        validation: np.ndarray | None = None,
    ) -> None:
        """Fit nothing."""

    def encode(self, descriptors: np.ndarray) -> np.ndarray:
        """Raise an InputError, since there are no codes."""
        raise InputError(
            "hashing=none makes no codes; train with another hashing choice, such as hashing=itq"
        )

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return an empty dictionary."""
        return {}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over nothing."""
