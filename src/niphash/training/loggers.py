"""Experiment loggers: a CSV file that goes on, Weights & Biases that falls back to offline, and pictures."""

import csv
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from lightning_fabric.loggers.csv_logs import _ExperimentWriter
from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from niphash.errors import writing

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger, WandbLogger

log = logging.getLogger(__name__)

WANDB_HOST = "api.wandb.ai"


class CSVLogger(pl.loggers.CSVLogger):
    """Lightning's CSV logger over a ``metrics.csv`` that goes on: a resumed run adds to the lines it finds.

    Args:
        save_dir: The run folder.
        name: Folder in it.
        version: Folder in that.
        flush_logs_every_n_steps: Lines are on the disk after so many steps; one, so that a kill loses none.
    """

    def __init__(
        self, save_dir: str, name: str = "csv", version: str = "", flush_logs_every_n_steps: int = 1
    ) -> None:
        super().__init__(save_dir, name, version, flush_logs_every_n_steps=flush_logs_every_n_steps)

    @property
    @rank_zero_experiment
    def experiment(self) -> _ExperimentWriter:
        """What writes the lines."""
        if self._experiment is None:
            self._experiment = LineWriter(self.log_dir)
        return self._experiment


class LineWriter(ExperimentWriter):
    """Appends to ``metrics.csv``, whose header says which columns there are.

    Lightning's keeps the columns in memory; processes that are spawned, and later runs, do not know them.
    """

    def log_hparams(self, params: dict[str, Any]) -> None:
        """Write the options.

        Raises:
            InputError: they cannot be written.
        """
        with writing(self.log_dir, "make room there, or name another folder by hydra.run.dir"):
            super().log_hparams(params)

    def save(self) -> None:
        """Append the lines recorded since the last call, under a wider header where they need one.

        Where they cannot be written they are kept for the next call; no training ends for want of a curve.
        """
        if not self.metrics:
            return
        try:
            self._write(Path(self.metrics_file_path))
        except OSError as error:
            if not self._told:
                log.warning(
                    "%s: cannot be written (%s); the run goes on", self.metrics_file_path, error.strerror
                )
            self._told = True

    _told = False

    def _write(self, path: Path) -> None:
        header = _header(path)
        columns = sorted({*header, *(key for line in self.metrics for key in line)})
        if columns == header:
            with path.open("a", newline="") as file:
                csv.DictWriter(file, columns).writerows(self.metrics)
        else:
            part = path.with_suffix(".part")
            with part.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows([*_lines(path), *self.metrics])
            part.replace(path)
        self.metrics = []

    def _check_log_dir_exists(self) -> None:
        """Leave what is there; Lightning's deletes it."""


def _header(path: Path) -> list[str]:
    """Return the columns of a CSV file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return next(csv.reader(file), [])


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a CSV file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def wandb_logger(save_dir: str, offline: bool | None = None, **settings: Any) -> "WandbLogger":
    """Return Lightning's Weights & Biases logger, offline when nothing can be sent.

    Args:
        save_dir: The run folder.
        offline: ``None`` decides by ``WANDB_MODE``, the API key and the network.
        settings: Passed on to ``WandbLogger`` (project, name, group, tags).
    """
    from pytorch_lightning.loggers import WandbLogger

    if offline is None:
        offline = os.environ.get("WANDB_MODE") in ("offline", "disabled") or not _wandb_reachable()
    settings = {key: value for key, value in settings.items() if value is not None}
    if "tags" in settings:
        settings["tags"] = list(settings["tags"])
    if offline:
        settings.setdefault("mode", "offline")  # Lightning sets WANDB_MODE, after wandb has looked there
    return WandbLogger(save_dir=save_dir, offline=offline, **settings)


def _wandb_reachable(timeout_s: float = 2.0) -> bool:
    try:
        socket.create_connection((WANDB_HOST, 443), timeout=timeout_s).close()
    except OSError:
        return False
    import wandb

    return wandb.login(prompt=False)


def log_picture(logger: "Logger", name: str, path: Path) -> None:
    """Put a PNG file on the logger, where it can show one."""
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

    if isinstance(logger, WandbLogger):
        logger.log_image(name, [str(path)])
    elif isinstance(logger, TensorBoardLogger):
        import numpy as np
        from PIL import Image

        logger.experiment.add_image(name, np.asarray(Image.open(path).convert("RGB")), dataformats="HWC")


def close(loggers: "Sequence[Logger]") -> None:
    """Write out what the loggers still hold; the next run of a sweep starts fresh ones."""
    from pytorch_lightning.loggers import WandbLogger

    for logger in loggers:
        logger.finalize("success")
        if isinstance(logger, WandbLogger):
            import wandb

            wandb.finish()
