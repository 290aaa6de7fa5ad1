"""Fit one LightningModule: its trainer, its checkpoint, its progress; and go on where a run was killed."""

import hashlib
import itertools
import json
import logging
import multiprocessing
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.multiprocessing.spawn import ProcessRaisedException

from niphash.descriptors.cnn_describer import has_fast_bf16
from niphash.errors import InputError
from niphash.hashing.checks import blocks
from niphash.hashing.hasher import TrainerFactory
from niphash.progress import track

IDENTITY = "niphash_identity"


def fit_module(
    module: pl.LightningModule,
    batches: pl.LightningDataModule,
    trainer: TrainerFactory | None,
    name: str,
    max_epochs: int,
    identity: Mapping[str, Any],
) -> None:
    """Train ``module`` for ``max_epochs``, or for what a killed run has left of them.

    The checkpoint is ``<default_root_dir of the trainer>/<name>.ckpt``. An epoch's numbers must depend on
    the state of the module and the number of the epoch alone; then a resumed run ends as an unbroken one.

    Args:
        module: What learns; changed in place.
        batches: What it learns from; asked for a new ``train_dataloader`` every epoch.
        trainer: Makes the trainer; without one, a quiet trainer on the CPU that leaves nothing on disk.
        name: Of the stage: names the checkpoint and the progress bar.
        max_epochs: Epochs in all.
        identity: Plain values (numbers, text, lists) that decide the outcome, the data's fingerprint among
            them; the trainer's precision and number of processes are added. A checkpoint with other values is
            refused.

    Raises:
        InputError: the folder holds the checkpoint of another configuration or other data, or the training
            diverged.
        KeyboardInterrupt: the training was interrupted.
    """
    with _quiet():
        made: Any = (trainer or quiet_cpu_trainer)(max_epochs=max_epochs, reload_dataloaders_every_n_epochs=1)
        arithmetic = {"precision": made.precision, "processes": made.world_size}
        text = json.dumps({**identity, **arithmetic}, sort_keys=True)
        path = Path(made.default_root_dir) / f"{name}.ckpt"
        resume = None
        made.callbacks = [c for c in made.callbacks if not isinstance(c, pl.callbacks.ModelCheckpoint)]
        made.callbacks.append(LeaveGroup())
        if trainer is not None:
            made.callbacks.append(EpochCheckpoint(path, text))
            resume = path if path.exists() else None
        for callback in made.callbacks:
            if isinstance(callback, StageProgress):
                callback.description = name
        if resume is not None:
            _check_identity(resume, text)
        module.train()
        _run(made, module, batches, resume)
    module.to("cpu").eval()
    if not all(bool(t.isfinite().all()) for t in itertools.chain(module.parameters(), module.buffers())):
        if trainer is not None:
            path.unlink(missing_ok=True)  # nobody should go on from there
        raise InputError(
            f"{name}: training diverged, its weights are not finite; lower the learning rate of this stage"
        )


def lightning_trainer(precision: str = "auto", **options: Any) -> pl.Trainer:
    """Return a Lightning trainer: what ``conf/trainer`` calls.

    Args:
        precision: Lightning's name, or ``auto``: bf16 where the device computes it fast.
        options: Of ``pytorch_lightning.Trainer``.
    """
    if precision == "auto":
        device = torch.device("cuda" if options.get("accelerator") == "gpu" else "cpu")
        precision = "bf16-mixed" if has_fast_bf16(device) else "32-true"
    return pl.Trainer(precision=cast(Any, precision), **options)


def check_trainer(make: TrainerFactory) -> pl.Trainer:
    """Return a trainer, made so that options it does not take are refused before any work.

    Raises:
        InputError: Lightning refuses them; its own words say why.
    """
    with _quiet():
        try:
            return make()
        except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
            why = str(error).splitlines()[0].rstrip(". ")
            raise InputError(f"no trainer can be made ({why}); choose other trainer options") from error


def quiet_cpu_trainer(**options: Any) -> pl.Trainer:
    """Return a trainer on the CPU, of one process unless asked, that neither prints nor writes."""
    quiet: dict[str, Any] = {"enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "logger": False, "devices": 1}
    return pl.Trainer(accelerator="cpu", **{**quiet, **options})


def data_fingerprint(descriptors: np.ndarray) -> str:
    """Return 32 hexadecimal digits for the shape, the type and all rows of [N, D], read in blocks.

    Raises:
        InputError: a value is NaN or infinite.
    """
    digest = hashlib.blake2b(f"{descriptors.shape} {descriptors.dtype}".encode(), digest_size=16)
    for block in blocks(descriptors):
        digest.update(block.tobytes())
    return digest.hexdigest()


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


def _run(
    trainer: pl.Trainer, module: pl.LightningModule, batches: pl.LightningDataModule, resume: Path | None
) -> None:
    """Fit, and let what ended it be heard: an interrupt, or the error that a user is meant to read."""
    try:
        trainer.fit(module, datamodule=batches, ckpt_path=resume, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C and of SIGTERM
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    except ProcessRaisedException as error:
        raise _said_by_child(error) from error


def _said_by_child(error: ProcessRaisedException) -> Exception:
    """Return the InputError that ended a spawned process, else the error as it came, with its traceback."""
    kind, _, sentence = str(error).strip().splitlines()[-1].partition(": ")
    return InputError(sentence) if kind == f"{InputError.__module__}.{InputError.__name__}" else error


def _check_identity(path: Path, identity: str) -> None:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True).get(IDENTITY)
    except Exception as error:
        raise InputError(f"{path}: not a checkpoint that can be read; delete it to start anew") from error
    if found != identity:
        raise InputError(
            f"{path}: the checkpoint of another configuration or other descriptors; "
            "delete it to start anew, or choose another hydra.run.dir"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice (workers, devices, tips) off the terminal; errors pass."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", module="lightning_fabric")
        try:
            yield
        finally:
            logger.setLevel(level)
