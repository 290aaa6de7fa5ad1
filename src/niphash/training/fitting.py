"""Fit one LightningModule: its trainer, its checkpoint, its progress; and go on where a run was killed."""

import itertools
import json
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from niphash.errors import InputError
from niphash.training.callbacks import (
    FINISHED,
    IDENTITY,
    EpochCheckpoint,
    MonitorCheck,
    SpawnedProcess,
    StageProgress,
    spawned_errors,
)
from niphash.training.loggers import SharedAxis
from niphash.training.rows import tensors_fingerprint
from niphash.training.streams import StageBatches
from niphash.training.trainer import TrainerFactory, quiet, quiet_cpu_trainer


def fit_module(
    module: pl.LightningModule,
    batches: StageBatches,
    trainer: TrainerFactory | None,
    name: str,
    max_epochs: int,
) -> None:
    """Train ``module`` for ``max_epochs``, or for what a killed run has left of them.

    The checkpoint is ``<default_root_dir of the trainer>/<name>.ckpt``. An epoch's numbers must depend on
    the state of the module and the number of the epoch alone; then a resumed run ends as an unbroken one.

    A checkpoint belongs to what decides the outcome: the hyperparameters of module and batches, the
    fingerprint of the data, the tensors that the module starts from, ``max_epochs``, the trainer's precision
    and number of processes. One with other values is refused.

    Args:
        module: What learns; changed in place.
        batches: What it learns from; asked for a new ``train_dataloader`` every epoch.
        trainer: Makes the trainer; without one, a quiet trainer on the CPU that leaves nothing on disk. A
            ``ModelCheckpoint`` among its callbacks writes to a folder called ``name`` below its ``dirpath``,
            by default ``default_root_dir``.
        name: Name of the stage, of its checkpoint and of its progress bar.
        max_epochs: Number of epochs, those before an interruption among them.

    Raises:
        InputError: the folder holds the checkpoint of another configuration or other data, a callback
            monitors no metric of the stage, or the training diverged.
        KeyboardInterrupt: the training was interrupted.
    """
    path = None
    with quiet():
        runner = (trainer or quiet_cpu_trainer)(max_epochs=max_epochs, reload_dataloaders_every_n_epochs=1)
        for logger in runner.loggers:
            if isinstance(logger, SharedAxis):
                logger.begin_stage(max_epochs * _steps(batches))
        if trainer is not None:
            path = Path(runner.default_root_dir) / f"{name}.ckpt"
        text = json.dumps(_identity(module, batches, runner), sort_keys=True)
        known = None if path is None or not path.exists() else _read_checkpoint(path, text)
        if known is not None and known[FINISHED]:
            module.load_state_dict(known["state_dict"])
        else:
            _add_callbacks(runner, name, path, text)
            module.train()
            _run(runner, module, batches, None if known is None else path)
    module.to("cpu").eval()
    if not all(bool(t.isfinite().all()) for t in itertools.chain(module.parameters(), module.buffers())):
        if path is not None:
            path.unlink(missing_ok=True)  # nobody should go on from there
        raise InputError(
            f"{name}: training diverged, its weights are not finite; lower the learning rate of this stage"
        )


def _steps(batches: StageBatches) -> int:
    """Return the steps of an epoch in one process."""
    return len(batches.train_dataloader())


def _identity(module: pl.LightningModule, batches: StageBatches, trainer: pl.Trainer) -> dict[str, Any]:
    """Return plain values that decide the outcome of a stage."""
    return {
        **module.hparams,
        **{f"batches.{key}": value for key, value in batches.hparams.items()},
        "epochs": trainer.max_epochs,
        "data": batches.fingerprint,
        "start": tensors_fingerprint(module.state_dict()),
        "precision": trainer.precision,
        "processes": trainer.world_size,
    }


def _add_callbacks(trainer: Any, name: str, path: Path | None, identity: str) -> None:
    """Give the user's callbacks what belongs to the stage, and add our own after them."""
    monitors: set[str | None] = set()
    for callback in trainer.callbacks:
        if isinstance(callback, StageProgress):
            callback.description = name
        elif isinstance(callback, ModelCheckpoint):
            callback.dirpath = str(Path(callback.dirpath or trainer.default_root_dir) / name)
            monitors.add(callback.monitor)
        elif isinstance(callback, EarlyStopping) and callback.strict:
            monitors.add(callback.monitor)
    trainer.callbacks.insert(0, MonitorCheck(name, [monitor for monitor in monitors if monitor]))
    trainer.callbacks.append(SpawnedProcess())
    if path is not None:
        trainer.callbacks.append(EpochCheckpoint(path, identity))


def _run(trainer: pl.Trainer, module: pl.LightningModule, batches: StageBatches, resume: Path | None) -> None:
    """Fit, and let what ended it be heard: an interrupt, or the error that a user is meant to read."""
    try:
        with spawned_errors():
            trainer.fit(module, datamodule=batches, ckpt_path=resume, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C and of SIGTERM
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise


def _read_checkpoint(path: Path, identity: str) -> dict[str, Any]:
    """Return what the file holds.

    Raises:
        InputError: it cannot be read, or belongs to another configuration or other data.
    """
    try:
        with zipfile.ZipFile(path) as zipped:  # PyTorch does not look at the checksums that it writes
            if (changed := zipped.testzip()) is not None:
                raise ValueError(f"{changed} was changed")
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        found, now = json.loads(checkpoint[IDENTITY]), json.loads(identity)
        other = sorted(key for key in {*found, *now} if key not in found or found[key] != now.get(key))
    except Exception as error:
        raise InputError(f"{path}: not a checkpoint that can be read; delete it to start anew") from error
    if other:
        raise InputError(
            f"{path}: the checkpoint of another configuration or other descriptors (another "
            f"{', another '.join(other)}); delete it to start anew, or choose another hydra.run.dir"
        )
    return checkpoint
