"""Callbacks of every learnable stage: its checkpoint, its progress, its metrics, its processes."""

import itertools
import logging
import multiprocessing
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from niphash.errors import InputError, writing
from niphash.parallel import end_with_parent
from niphash.progress import track
from niphash.training.trainer import silence

log = logging.getLogger(__name__)

IDENTITY, FINISHED = "niphash_identity", "niphash_finished"


class EpochCheckpoint(pl.callbacks.Checkpoint):
    """Keep the state after the end of a stage, or after an epoch that ended some seconds ago, in one file.

    The file is replaced in one step, so a run that is killed leaves the old one or the new one.

    Args:
        path: The file.
        identity: What the checkpoint belongs to.
    """

    every_s = 20.0

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.identity = identity
        self.written = time.monotonic()
        self.finished = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note what the checkpoint belongs to, and whether the stage has ended with it."""
        checkpoint[IDENTITY] = self.identity
        checkpoint[FINISHED] = self.finished

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file when it is time, but not before the end that follows at once."""
        ends = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        due = not ends and time.monotonic() - self.written >= self.every_s
        if trainer.strategy.broadcast(due):  # clocks differ; all processes must write, or none
            self._write(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file of a stage that has ended, after its last epoch or by a callback that stopped it."""
        self.finished = True
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        self.written = time.monotonic()
        part = self.path.with_suffix(".part")
        try:
            with writing(self.path, "make room there, or name another folder by hydra.run.dir"):
                if trainer.is_global_zero:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    trainer.save_checkpoint(part)
                except RuntimeError as error:  # what torch.save makes of a full disk
                    raise OSError(None, str(error).splitlines()[0]) from error
                if trainer.is_global_zero:
                    part.replace(self.path)
        except InputError as error:
            if trainer.world_size > 1:  # the others wait for it
                raise
            with suppress(OSError):
                part.unlink(missing_ok=True)
            log.warning("%s (the training goes on, and begins anew should it be interrupted)", error)


class SpawnedProcess(pl.Callback):
    """What a spawned process needs: silence, an end when its parent ends, and to leave its group before."""

    def __getstate__(self) -> dict[str, bool]:
        return {"spawned": True}  # an empty state is not restored

    def __setstate__(self, state: dict[str, bool]) -> None:
        """Prepare the process; only one that is spawned unpickles a callback."""
        silence()
        end_with_parent()  # else it goes on training and writing after a kill of the run

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Wait for the other processes, then leave; the group's threads abort a process now and then."""
        if multiprocessing.parent_process() is not None and torch.distributed.is_initialized():
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()


@contextmanager
def spawned_errors() -> Iterator[None]:
    """Let what ended a spawned process end the run as if it had happened here.

    Raises:
        InputError: as raised there; or the process was ended from outside.
    """
    try:
        yield
    except ProcessRaisedException as error:
        kind, _, sentence = str(error).strip().splitlines()[-1].partition(": ")
        if kind == f"{InputError.__module__}.{InputError.__name__}":
            raise InputError(sentence) from error
        raise
    except ProcessExitedException as error:
        how = error.signal_name or f"exit status {error.exit_code}"
        raise InputError(
            f"process {error.error_index} of this run was ended ({how}; by a lack of memory, if nobody did); "
            "start the same command with the same hydra.run.dir again, it goes on"
        ) from error


class MonitorCheck(pl.Callback):
    """Refuse a callback that monitors what the stage does not compute; Lightning ends with a traceback.

    Args:
        stage: Name of the stage, for the message.
        monitors: The metrics that callbacks monitor.
    """

    def __init__(self, stage: str, monitors: Iterable[str]) -> None:
        self.stage, self.monitors = stage, sorted(monitors)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look for the metrics after an epoch, when every one has been computed.

        Raises:
            InputError: there is no such metric.
        """
        for monitor in self.monitors:
            if monitor not in trainer.callback_metrics:
                known = ", ".join(sorted(trainer.callback_metrics))
                raise InputError(
                    f"callbacks: monitor={monitor} is no metric of the stage {self.stage}; "
                    f"choose one of {known} (val_loss needs fit.held_out above 0)"
                )


class StageProgress(pl.Callback):
    """Progress of the stage that learns: a bar on a terminal, a plain line now and then elsewhere."""

    description = "train"

    def __init__(self) -> None:
        self._steps: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the bar."""
        if trainer.is_global_zero:
            total = int(trainer.estimated_stepping_batches)
            done = int(trainer.global_step)
            self._steps = track(itertools.repeat(None), f"train {self.description}", total, start=done)
            next(self._steps)  # an item is counted when the next one is asked for

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._steps is not None:
            next(self._steps)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the bar, where it stands: a callback may have stopped the stage."""
        if self._steps is not None:
            self._steps.close()
        self._steps = None
