"""Fit one LightningModule: its trainer, its checkpoint, its progress; and go on where a run was killed."""

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from niphash.errors import InputError
from niphash.training.callbacks import IDENTITY, EpochCheckpoint, LeaveGroup, StageProgress
from niphash.training.rows import blocks
from niphash.training.trainer import (
    TrainerFactory,
    _quiet,
    quiet_cpu_trainer,
)


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


def data_fingerprint(descriptors: np.ndarray) -> str:
    """Return 32 hexadecimal digits for the shape, the type and all rows of [N, D], read in blocks.

    Raises:
        InputError: a value is NaN or infinite.
    """
    digest = hashlib.blake2b(f"{descriptors.shape} {descriptors.dtype}".encode(), digest_size=16)
    for block in blocks(descriptors):
        digest.update(block.tobytes())
    return digest.hexdigest()


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
