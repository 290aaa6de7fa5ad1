"""How a phase of fine-tuning is trained: a thin LightningModule, and a callback that looks on."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch

from niphash.errors import InputError
from niphash.hashing.rbm.network import Stack, StackLoss
from niphash.training.stage import Stage


class FineTuningStage(Stage):
    """Descend on a loss with all layers of a network; the loss and its parts are logged under ``<name>/``.

    Args:
        name: See :class:`Stage`.
        network: What learns.
        loss: What is made small.
        rate: Learning rate.
        momentum: Of stochastic gradient descent.
        hyperparameters: See :class:`Stage`.
    """

    def __init__(
        self,
        name: str,
        network: Stack,
        loss: StackLoss,
        rate: float,
        momentum: float,
        hyperparameters: Mapping[str, Any],
    ) -> None:
        super().__init__(name, hyperparameters)
        self.network = network
        self.loss = loss
        self.rate, self.momentum = rate, momentum
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
