"""The phases that go on with a trained network: descent on a loss of sampled pairs or triplets."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch

from niphash.errors import InputError
from niphash.hashing.rbm.network import Stack
from niphash.hashing.rbm.phase import Phase
from niphash.options import check_number
from niphash.training.fit_data import FitData
from niphash.training.fitting import fit_module
from niphash.training.rows import Rows
from niphash.training.stage import Stage
from niphash.training.streams import Draw, SampledBatches
from niphash.training.trainer import TrainerFactory

EPOCH_ITERATIONS = 100
RESIDENT_BYTES = 512 * 2**20

#: Turns a network and a batch into a scalar loss and scalars to log.
Loss = Callable[[Stack, Any], tuple[torch.Tensor, Mapping[str, torch.Tensor]]]


class Objective(NamedTuple):
    """What a phase descends on.

    Attributes:
        loss: What is made small.
        draw: Makes the batches.
        found: Plain values worth logging.
    """

    loss: Loss
    draw: Draw
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
        objective = self.objective(network, data, seed)
        stage = FineTuningStage(name, network, objective.loss, self, seed)
        batches = SampledBatches(data, objective.draw, EPOCH_ITERATIONS, seed)
        fit_module(stage, batches, trainer, name, -(-self.iterations // EPOCH_ITERATIONS))
        network.requires_grad_(False)
        return objective.found


class FineTuningStage(Stage):
    """Descend on a loss with all layers of a network; the loss and its parts are logged under ``<name>/``.

    Args:
        name: See :class:`Stage`.
        network: What learns.
        loss: What is made small.
        phase: The options, all of which are hyperparameters.
        seed: A hyperparameter too; it decides the batches.
    """

    def __init__(self, name: str, network: Stack, loss: Loss, phase: FineTuning, seed: int) -> None:
        super().__init__(name, phase.hyperparameters(network, seed))
        self.network = network
        self.loss = loss
        self.rate, self.momentum = phase.fine_tuning_rate, phase.fine_tuning_momentum
        for layer in network.rbms:
            layer.weight.requires_grad_(True)
            layer.hidden_bias.requires_grad_(True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return stochastic gradient descent with momentum on weights and hidden biases."""
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.SGD(learned, self.rate, self.momentum)

    def training_step(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch and log it."""
        loss, parts = self.loss(self.network, batch)
        values = {key: value.detach() for key, value in {"loss": loss, **parts}.items()}
        self.log_values(values, {"loss": values["loss"]})
        return loss


class Snapshots(pl.Callback):
    """Show the network before fine-tuning and after every hundredth iteration, in a run of one process.

    Args:
        take: Called with the number of iterations done and the network as it is then.
    """

    def __init__(self, take: Callable[[int, Stack], None]) -> None:
        self.take = take

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse several processes, whose children would keep what is shown to them.

        Raises:
            InputError: there are several.
        """
        if trainer.world_size > 1:
            raise InputError("measuring along fine-tuning needs one process; give trainer=cpu or trainer=gpu")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the network before fine-tuning."""
        if isinstance(pl_module, FineTuningStage) and trainer.global_step == 0:
            self.take(0, pl_module.network)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the network after a hundred iterations more."""
        if isinstance(pl_module, FineTuningStage):
            self.take(trainer.global_step, pl_module.network)


def resident(descriptors: Rows) -> Rows:
    """Return [N, D] as float32 in memory where that takes little, since samples are drawn row by row."""
    small = descriptors.shape[0] * descriptors.shape[1] * 4 <= RESIDENT_BYTES
    return np.asarray(descriptors, np.float32) if small else descriptors


def gather(descriptors: Rows, rows: np.ndarray) -> torch.Tensor:
    """Return float32 [n, B, D], the ``rows`` int64 [B, n] of descriptors [N, D], a memory map or an array."""
    chosen = np.array(descriptors[rows.T.reshape(-1)], np.float32)
    return torch.from_numpy(chosen).view(rows.shape[1], len(rows), -1)
