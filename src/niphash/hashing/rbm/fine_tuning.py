"""The phases that go on with a trained network: descent on a loss of sampled pairs or triplets."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from niphash.hashing.rbm.network import Stack, StackLoss
from niphash.hashing.rbm.phase import Phase
from niphash.options import check_number
from niphash.training.fit_data import FitData
from niphash.training.rows import Rows
from niphash.training.trainer import TrainerFactory

if TYPE_CHECKING:
    from niphash.training.streams import Draw

EPOCH_ITERATIONS = 100
RESIDENT_BYTES = 512 * 2**20


class Objective(NamedTuple):
    """What a phase descends on.

    Attributes:
        loss: What is made small.
        draw: Makes the batches.
        found: Plain values worth logging.
    """

    loss: StackLoss
    draw: "Draw"
    found: dict[str, Any] = {}  # noqa: RUF012 - never written to


@dataclass(frozen=True, kw_only=True)
class FineTuning(Phase):
    """Stochastic gradient descent with all layers of a network.

    Attributes:
        iterations: Steps, rounded up to whole hundreds.
        fine_tuning_rate: Learning rate of weights and hidden biases.
        fine_tuning_momentum: Share of the last step in the next.
    """

    iterations: int = 1000
    fine_tuning_rate: float
    fine_tuning_momentum: float = 0.9

    def check_options(self, place: str) -> None:
        """See :meth:`Phase.check_options`."""
        check_number("iterations", self.iterations, least=1, whole=True, group=place)
        check_number("fine_tuning_rate", self.fine_tuning_rate, above=0, group=place)
        check_number("fine_tuning_momentum", self.fine_tuning_momentum, least=0, below=1, group=place)

    @abstractmethod
    def objective(self, network: Stack, data: FitData, seed: int) -> Objective:
        """Return what ``network`` descends on, for the arguments of :meth:`train`."""

    def train(
        self, network: Stack, data: FitData, *, name: str, seed: int, trainer: TrainerFactory | None = None
    ) -> dict[str, Any]:
        """See :meth:`Phase.train`; the one stage is called ``name``."""
        from niphash.hashing.rbm.fine_tuning_stage import FineTuningStage
        from niphash.training.fitting import fit_module
        from niphash.training.streams import SampledBatches

        objective = self.objective(network, data, seed)
        rates = self.fine_tuning_rate, self.fine_tuning_momentum
        stage = FineTuningStage(name, network, objective.loss, *rates, self.hyperparameters(network, seed))
        batches = SampledBatches(data, objective.draw, EPOCH_ITERATIONS, seed)
        fit_module(stage, batches, trainer, name, -(-self.iterations // EPOCH_ITERATIONS))
        network.requires_grad_(False)
        return objective.found


def resident(descriptors: Rows) -> Rows:
    """Return [N, D] as float32 in memory where that takes little, since samples are drawn row by row."""
    small = descriptors.shape[0] * descriptors.shape[1] * 4 <= RESIDENT_BYTES
    return np.asarray(descriptors, np.float32) if small else descriptors


def gather(descriptors: Rows, rows: np.ndarray) -> torch.Tensor:
    """Return float32 [n, B, D], the ``rows`` int64 [B, n] of descriptors [N, D], a memory map or an array."""
    chosen = np.array(descriptors[rows.T.reshape(-1)], np.float32)
    return torch.from_numpy(chosen).view(rows.shape[1], len(rows), -1)
