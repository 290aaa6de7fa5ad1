"""What every hashing method offers: float descriptors to packed binary codes."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
import torch

from niphash.errors import InputError
from niphash.training.fit_data import FitData
from niphash.training.rows import Rows
from niphash.training.trainer import TrainerFactory

#: ``"hamming"``: bits that differ. ``"asymmetric"``: the query is not rounded to bits, the database is.
DistanceName = Literal["hamming", "asymmetric"]


class Hasher(ABC):
    """Descriptor to bits. Instantiated from ``conf/hashing``; knows nothing of images."""

    #: Length of a code; a positive multiple of 8.
    bits: int
    #: Whether :meth:`fit` needs matching pairs.
    needs_pairs: bool = False
    #: Whether :meth:`recenter` is to be called with the collection that is indexed.
    recenters_on_index: bool = False
    #: The distances that codes can be searched by, the one that suits the method best first.
    distances: tuple[DistanceName, ...] = ("hamming",)

    def check(self, dim: int, count: int) -> None:  # noqa: B027 - nothing to refuse is a fair answer
        """Refuse what :meth:`fit` could not do, before any photo is described.

        Args:
            dim: Number of components of a descriptor.
            count: Number of fit descriptors.

        Raises:
            InputError: more bits than dimensions, layers that grow, too few descriptors, ...
        """

    def check_pairs(self, pairs: np.ndarray | None, count: int) -> None:  # noqa: B027 - most need none
        """Refuse matching pairs that :meth:`fit` could not learn from, before any photo is described.

        Args:
            pairs: int64 [P, 2], or ``None``.
            count: Number of fit descriptors.

        Raises:
            InputError: pairs are needed and there are none, or they are no pairs of the fit set.
        """

    @abstractmethod
    def fit(self, data: FitData, trainer: TrainerFactory | None = None) -> None:
        """Fit on unlabelled descriptors.

        Args:
            data: Descriptors (an array or a memory map, read in blocks), pairs where :attr:`needs_pairs`, and
                held-out descriptors for logged curves and for stopping rules of the user.
            trainer: Makes the Lightning trainers of the learnable stages; without one they train quietly on
                the CPU and leave no checkpoint.

        Raises:
            InputError: too few descriptors, more bits than dimensions, NaN, ...
        """

    @abstractmethod
    def encode(self, descriptors: Rows) -> np.ndarray:
        """Return uint8 [N, bits // 8]: bit j is bit j % 8 (least significant first) of byte j // 8."""

    def project(self, descriptors: np.ndarray) -> np.ndarray | None:
        """Return float32 [N, bits] whose signs are the bits; ``None`` of a method whose bits are no signs."""
        return None

    def index_queries(self, descriptors: np.ndarray, distance: DistanceName) -> np.ndarray | None:
        """Return what an index is asked with for queries float [Q, D].

        Args:
            descriptors: Of the queries.
            distance: How they are compared with the codes of the index.

        Returns:
            Codes uint8 [Q, bits // 8] or projections float32 [Q, bits]; ``None`` where no index knows how the
            method compares, see :meth:`asymmetric_distances`.
        """
        return self.encode(descriptors) if distance == "hamming" else self.project(descriptors)

    def asymmetric_distances(self, descriptors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return distances float32 [Q, N] of exact queries to codes, of a method whose bits are no signs.

        Args:
            descriptors: Queries, float [Q, D].
            codes: uint8 [N, bits // 8] of :meth:`encode`.
        """
        raise NotImplementedError(f"codes of {type(self).__name__} know no such distance")

    @abstractmethod
    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return everything learned, as tensors for a safetensors file."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` returned; afterwards :meth:`encode` works without a fit."""

    def recenter(self, descriptors: Rows) -> None:  # noqa: B027 - not every method has thresholds
        """Move the bit thresholds to the mean of another collection, where the method has thresholds."""

    def log_config(self) -> dict[str, Any]:
        """Return plain values worth logging (layer sizes actually used, margins found, ...)."""
        return {}


class NoHashing(Hasher):
    """The choice ``hashing=none``: :attr:`bits` is 0, and there is no code to measure or to index."""

    bits = 0

    def fit(self, data: FitData, trainer: TrainerFactory | None = None) -> None:
        """Fit nothing."""

    def encode(self, descriptors: Rows) -> np.ndarray:
        """Raise an InputError, since there are no codes."""
        raise InputError(
            "hashing=none makes no codes; train with another hashing choice, such as hashing=itq"
        )

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return an empty dictionary."""
        return {}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over nothing."""
