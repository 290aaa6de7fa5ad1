"""Callbacks of every learnable stage: its checkpoint, its progress, the end of its processes."""

import itertools
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from niphash.progress import track

IDENTITY = "niphash_identity"


class EpochCheckpoint(pl.Callback):
    """Keep the state after the last epoch, or after one that ended some seconds ago, in one file.

    The file is replaced in one step, so a run that is killed leaves the old one or the new one.
    """

    every_s = 20.0

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.identity = identity
        self.written = time.monotonic()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note what the checkpoint belongs to."""
        checkpoint[IDENTITY] = self.identity

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file when it is time."""
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        due = is_last or time.monotonic() - self.written >= self.every_s
        if not trainer.strategy.broadcast(due):  # clocks differ; all processes must write, or none
            return
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            part.replace(self.path)
        self.written = time.monotonic()


class LeaveGroup(pl.Callback):
    """Take a spawned process out of its group before it exits; the group's threads abort it now and then."""

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Wait for the others, then leave."""
        if multiprocessing.parent_process() is not None and torch.distributed.is_initialized():
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()


class StageProgress(pl.Callback):
    """Progress of the stage that learns: a bar on a terminal, a plain line now and then elsewhere."""

    description = "train"

    def __init__(self) -> None:
        self._steps: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the bar."""
        if trainer.is_global_zero:
            total = int(trainer.estimated_stepping_batches)
            self._steps = track(itertools.repeat(None), f"train {self.description}", total)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._steps is not None:
            next(self._steps)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the bar."""
        if self._steps is not None:
            self._steps.close()
        self._steps = None
