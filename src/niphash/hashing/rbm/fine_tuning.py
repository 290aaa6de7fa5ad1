"""The second phase that Siamese and triplet hashing share: a trained stack goes on learning from samples."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from niphash.errors import InputError
from niphash.hashing.checks import check_number
from niphash.hashing.rbm.network import Stack
from niphash.training.fitting import fit_module
from niphash.training.streams import Draw, SampledBatches
from niphash.training.trainer import TrainerFactory, check_trainer

EPOCH_ITERATIONS = 100


RESIDENT_BYTES = 512 * 2**20


#: Turns a stack and a batch into a scalar loss and scalars to log.
Loss = Callable[[Stack, Any], tuple[torch.Tensor, Mapping[str, torch.Tensor]]]


#: Called with the number of iterations done and the stack as it is then, in a run of one process.
Snapshot = Callable[[int, Stack], None]


@dataclass(frozen=True)
class Descent:
    """Stochastic gradient descent of the second phase.

    Attributes:
        iterations: Steps, rounded up to whole hundreds.
        learning_rate: Of weights and hidden biases.
        momentum: Share of the last step in the next.

    Raises:
        InputError: one of them cannot be.
    """

    iterations: int
    learning_rate: float
    momentum: float

    def __post_init__(self) -> None:
        check_number("iterations", self.iterations, least=1, whole=True)
        check_number("fine_tuning_rate", self.learning_rate, above=0)
        check_number("fine_tuning_momentum", self.momentum, least=0, below=1)


def fine_tune(
    stack: Stack,
    loss: Loss,
    draw: Draw,
    descent: Descent,
    *,
    name: str,
    seed: int,
    trainer: TrainerFactory | None,
    identity: Mapping[str, Any],
    snapshot: Snapshot | None = None,
) -> None:
    """Descend on ``loss`` with all layers of ``stack``, which is changed in place and frozen again.

    Args:
        stack: A trained stack.
        loss: What is made small.
        draw: Makes the batches.
        descent: Steps and rates.
        name: Of the stage, for its checkpoint and its log.
        seed: Decides what is drawn.
        trainer: See :func:`fit_module`.
        identity: See :func:`fit_module`; ``descent`` and ``seed`` are added.
        snapshot: Called before the first and after every hundredth iteration.
    """
    stage = FineTuning(stack, loss, descent, name, snapshot)
    batches = SampledBatches(draw, EPOCH_ITERATIONS, seed)
    epochs = -(-descent.iterations // EPOCH_ITERATIONS)
    fit_module(stage, batches, trainer, name, epochs, {**identity, **asdict(descent), "seed": seed})
    stack.requires_grad_(False)


class FineTuning(pl.LightningModule):
    """Descend on a loss with all layers of a stack; the loss and its parts are logged under ``<name>/``."""

    def __init__(
        self, stack: Stack, loss: Loss, descent: Descent, name: str, snapshot: Snapshot | None = None
    ) -> None:
        super().__init__()
        self.stack = stack
        self.loss = loss
        self.descent = descent
        self.name = name
        self.snapshot = snapshot
        for layer in stack.layers:
            layer.weight.requires_grad_(True)
            layer.hidden_bias.requires_grad_(True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return stochastic gradient descent with momentum on weights and hidden biases."""
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.SGD(learned, self.descent.learning_rate, self.descent.momentum)

    def on_train_start(self) -> None:
        """Take the first snapshot."""
        if self.snapshot is not None and self.global_step == 0:
            self.snapshot(0, self.stack)

    def training_step(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch and log it."""
        loss, parts = self.loss(self.stack, batch)
        values = {f"{self.name}/{key}": value.detach() for key, value in {"loss": loss, **parts}.items()}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
        return loss

    def on_train_epoch_end(self) -> None:
        """Take a snapshot."""
        if self.snapshot is not None:
            self.snapshot(self.global_step, self.stack)


def check_snapshots(snapshot: Snapshot | None, trainer: TrainerFactory | None) -> None:
    """Raise an InputError if snapshots are asked of several processes, whose children would keep them."""
    if snapshot is not None and trainer is not None and check_trainer(trainer).world_size > 1:
        raise InputError("measuring along fine-tuning needs one process; give trainer=cpu or trainer=gpu")


def resident(descriptors: np.ndarray) -> np.ndarray:
    """Return [N, D] as float32 in memory where that takes little, since samples are drawn row by row."""
    small = descriptors.shape[0] * descriptors.shape[1] * 4 <= RESIDENT_BYTES
    return np.asarray(descriptors, np.float32) if small else descriptors


def gather(descriptors: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    """Return float32 [n, B, D], the ``rows`` int64 [B, n] of descriptors [N, D], a memory map or an array."""
    chosen = np.array(descriptors[rows.T.reshape(-1)], np.float32)
    return torch.from_numpy(chosen).view(rows.shape[1], len(rows), -1)
