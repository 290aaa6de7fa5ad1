"""A phase of the training of an RBM network: what it needs, and how it trains."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np

from niphash.hashing.rbm.network import Stack
from niphash.training.fit_data import FitData
from niphash.training.trainer import TrainerFactory

#: How a learning rate goes on: as it is, or falling in a straight line to zero.
Schedule = Literal["constant", "linear"]


@dataclass(frozen=True, kw_only=True)
class Phase(ABC):
    """One part of the training of a network; its fields are options, plain values.

    A phase knows the network as it finds it, not what trained it before.
    """

    #: Begins the names of what it logs and of its checkpoints.
    kind: ClassVar[str]
    #: Whether it sets the initial weights: the first phase must, no other may.
    starts: ClassVar[bool] = False
    #: Whether it learns from matching pairs.
    needs_pairs: ClassVar[bool] = False

    def check_options(self, place: str) -> None:  # noqa: B027 - nothing to refuse is a fair answer
        """Refuse options that cannot be.

        Args:
            place: Where they stand in the configuration, such as ``hashing.phases.1``, for the message.

        Raises:
            InputError: an option that cannot be.
        """

    def check(self, sizes: Sequence[int], count: int, place: str) -> None:  # noqa: B027
        """Refuse a network or a fit set that it could not learn with, before any photo is described.

        Args:
            sizes: Numbers of units of the hidden layers, bottom first.
            count: Number of fit descriptors.
            place: As above.

        Raises:
            InputError: it could not.
        """

    def check_pairs(self, pairs: np.ndarray | None, count: int) -> None:  # noqa: B027
        """See :meth:`niphash.hashing.hasher.Hasher.check_pairs`."""

    @abstractmethod
    def train(
        self, network: Stack, data: FitData, *, name: str, seed: int, trainer: TrainerFactory | None = None
    ) -> dict[str, Any]:
        """Train ``network``, which is changed in place and left frozen.

        Args:
            network: A network whose standardisation is fitted.
            data: What it learns from; has pairs where :attr:`needs_pairs` only.
            name: Name of the stage, or the beginning of the names of its stages.
            seed: Seed of everything random.
            trainer: Makes the Lightning trainers; see :func:`niphash.training.fitting.fit_module`.

        Returns:
            Plain values worth logging that the training found.
        """

    def hyperparameters(self, network: Stack, seed: int) -> dict[str, Any]:
        """Return every option by name, those of ``network`` and the seed with them, sequences as lists."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {
            key: list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
            for key, value in values.items()
        }
        return {**network.hyperparameters, **plain, "seed": seed}
