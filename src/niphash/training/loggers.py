"""Experiment loggers: CSV, TensorBoard and Weights & Biases, with one axis of steps over all stages of a run.

Curves are logged by Lightning; what a run leaves at its end (means, pictures, tables, the model) by
:func:`log_results` and :func:`log_model`, which give each logger what it can show.
"""

import csv
import errno
import io
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
from lightning_fabric.loggers.csv_logs import _ExperimentWriter
from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from niphash.errors import writing

if TYPE_CHECKING:
    from PIL import Image
    from pytorch_lightning.loggers import Logger

log = logging.getLogger(__name__)

WANDB_HOST = "api.wandb.ai"
#: Folders that wandb would make in the home of the user; they belong to the run.
WANDB_FOLDERS = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR")
#: How a stage names the share of values in the bins [0, 0.1), [0.1, 0.2), ... of a histogram.
SHARE = re.compile(r"(.+)_0\.(\d)")


class Picture(NamedTuple):
    """A picture in a cell of a table."""

    image: "Image.Image"
    caption: str


class Table(NamedTuple):
    """A table for loggers; cells are text, numbers, ``None`` or :class:`Picture`."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class SharedAxis:
    """One axis of steps over all stages of a run: Lightning counts those of each stage from 0."""

    _start = 0  # where the running stage begins
    _end = 0
    #: What the stages belong to, in a study of several methods; begins the names of their curves.
    owner = ""

    def begin_stage(self, steps: int) -> None:
        """Put the next stage, of ``steps`` steps at most, behind those before it."""
        self._start, self._end = self._end, self._end + steps

    def placed(self, metrics: Mapping[str, Any], step: int | None) -> tuple[dict[str, Any], int]:
        """Return metrics under the name of their owner, and the place of ``step`` on the axis."""
        named = {f"{self.owner}/{key}" if self.owner and "/" in key else key: metrics[key] for key in metrics}
        return named, self._end if step is None else self._start + step


@contextmanager
def owned(loggers: "Sequence[Logger]", owner: str) -> Iterator[None]:
    """Put ``owner`` before the names of the curves that are logged in the ``with`` block."""
    own = [logger for logger in loggers if isinstance(logger, SharedAxis)]
    for logger in own:
        logger.owner = owner
    try:
        yield
    finally:
        for logger in own:
            logger.owner = ""


def histograms(metrics: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the metrics that are single numbers, and the shares [10] of those that are tenths of (0, 1)."""
    single: dict[str, Any] = {}
    shares: dict[str, np.ndarray] = {}
    for key, value in metrics.items():
        found = SHARE.fullmatch(key)
        if found:
            shares.setdefault(found[1], np.zeros(10))[int(found[2])] = float(value)
        else:
            single[key] = value
    return single, shares


class CSVLogger(SharedAxis, pl.loggers.CSVLogger):
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

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write one line."""
        super().log_metrics(*self.placed(metrics, step))

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
            _append(path, columns, self.metrics)
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


def _append(path: Path, columns: list[str], lines: Sequence[Mapping[str, Any]]) -> None:
    """Add lines to a CSV file, all of them or none; what a kill left of a line goes first.

    Raises:
        OSError: they cannot be written.
    """
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns).writerows(lines)
    content = text.getvalue().encode()
    with path.open("r+b", buffering=0) as file:
        whole = file.seek(-1, os.SEEK_END) + 1
        if file.read(1) != b"\n":
            whole = path.read_bytes().rfind(b"\n") + 1
            file.truncate(whole)
            file.seek(whole)
        try:
            if file.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(whole)
            raise


def _header(path: Path) -> list[str]:
    """Return the columns of a CSV file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return next(csv.reader(file), [])


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a CSV file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [line for line in csv.DictReader(file) if None not in line and None not in line.values()]


class TensorBoardLogger(SharedAxis, pl.loggers.TensorBoardLogger):
    """Lightning's TensorBoard logger; shares are histograms, and ``hp_metric`` is that of the run.

    Args:
        save_dir: The run folder.
        name: Folder in it.
        version: Folder in that.
    """

    def __init__(self, save_dir: str, name: str = "tensorboard", version: str = "") -> None:
        super().__init__(save_dir, name, version, default_hp_metric=False)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write the scalars, and the histograms that are among them as shares."""
        named, step = self.placed(metrics, step)
        single, shares = histograms(named)
        super().log_metrics(single, step)
        for name, share in shares.items():
            edges = np.linspace(0, 1, len(share) + 1)
            middles = (edges[1:] + edges[:-1]) / 2
            self.experiment.add_histogram_raw(
                name,
                min=0.0,
                max=1.0,
                num=float(share.sum()),
                sum=float(share @ middles),
                sum_squares=float(share @ middles**2),
                bucket_limits=edges[1:].tolist(),
                bucket_counts=share.tolist(),
                global_step=step,
            )


class WandbLogger(SharedAxis, pl.loggers.WandbLogger):
    """Lightning's Weights & Biases logger; shares are histograms."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Send the scalars, and the histograms that are among them as shares."""
        import wandb

        named, step = self.placed(metrics, step)
        single, shares = histograms(named)
        for name, share in shares.items():
            single[name] = wandb.Histogram(np_histogram=(share, np.linspace(0, 1, len(share) + 1)))
        super().log_metrics(single, step)


def wandb_logger(save_dir: str, offline: bool | None = None, **settings: Any) -> WandbLogger:
    """Return a Weights & Biases logger, offline when nothing can be sent.

    Args:
        save_dir: The run folder.
        offline: ``None`` decides by ``WANDB_MODE``, the API key and the network.
        settings: Passed on to ``WandbLogger`` (project, name, group, job_type, tags).
    """
    if offline is None:
        offline = os.environ.get("WANDB_MODE") in ("offline", "disabled") or not _wandb_reachable()
    settings = {key: value for key, value in settings.items() if value is not None}
    if "tags" in settings:
        settings["tags"] = list(settings["tags"])
    if offline:
        settings.setdefault("mode", "offline")  # Lightning sets WANDB_MODE, after wandb has looked there
    for folder in WANDB_FOLDERS:
        if os.environ.get(folder) in (None, _own_folders.get(folder)):
            _own_folders[folder] = os.environ[folder] = str(Path(save_dir) / "wandb" / "files")
    return WandbLogger(save_dir=save_dir, offline=offline, **settings)


_own_folders: dict[str, str] = {}  # what was set by an earlier run of this process


def _wandb_reachable(timeout_s: float = 2.0) -> bool:
    try:
        socket.create_connection((WANDB_HOST, 443), timeout=timeout_s).close()
    except OSError:
        return False
    import wandb

    return wandb.login(prompt=False)


def log_results(
    loggers: "Sequence[Logger]",
    means: Mapping[str, float],
    picture: Path | None = None,
    tables: Mapping[str, Table] | None = None,
    objective: float | None = None,
) -> None:
    """Show what a run has found at its end.

    Args:
        loggers: Each shows what it can: Weights & Biases everything, TensorBoard no pictures in tables, the
            CSV file the means.
        means: By name; the summary of the run on Weights & Biases.
        picture: A PNG file, shown under its own name.
        tables: By name.
        objective: What runs are compared by: ``hp_metric`` of TensorBoard, ``objective`` in the summary.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _show_on_wandb(logger, means, picture, tables or {}, objective)
            continue
        if means:
            logger.log_metrics(dict(means))
        if isinstance(logger, TensorBoardLogger):
            _show_on_tensorboard(logger, picture, tables or {}, objective)


def _show_on_wandb(
    logger: WandbLogger,
    means: Mapping[str, float],
    picture: Path | None,
    tables: Mapping[str, Table],
    objective: float | None,
) -> None:
    import wandb

    def cell(value: Any, numbers: bool) -> Any:
        if isinstance(value, Picture):
            return wandb.Image(value.image, caption=value.caption, file_type="jpg")
        return value if value is None or numbers else str(value)  # a column has one type

    run = logger.experiment
    run.summary.update({**means, **({} if objective is None else {"objective": objective})})
    shown: dict[str, Any] = {} if picture is None else {picture.stem: wandb.Image(str(picture))}
    for name, table in tables.items():
        numbers = [
            all(value is None or isinstance(value, int | float) for value in column)
            for column in zip(*table.rows, strict=True)
        ]
        rows = [[cell(*pair) for pair in zip(row, numbers, strict=True)] for row in table.rows]
        shown[name] = wandb.Table(columns=list(table.columns), data=rows)
    if shown:
        run.log(shown)


def _show_on_tensorboard(
    logger: TensorBoardLogger, picture: Path | None, tables: Mapping[str, Table], objective: float | None
) -> None:
    from PIL import Image

    if objective is not None:
        logger.log_hyperparams(dict(logger.hparams), {"hp_metric": objective})
    if picture is not None:
        pixels = np.asarray(Image.open(picture).convert("RGB"))
        logger.experiment.add_image(picture.stem, pixels, dataformats="HWC")
    for name, table in tables.items():
        logger.experiment.add_text(name, _markdown(table))


def _markdown(table: Table) -> str:
    """Return a table of text; of a picture its caption."""

    def cell(value: Any) -> str:
        text = value.caption if isinstance(value, Picture) else "" if value is None else str(value)
        return " ".join(text.split()).replace("|", "\\|")

    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def log_model(loggers: "Sequence[Logger]", folder: Path, record: Mapping[str, Any]) -> None:
    """Keep a model folder as an artifact of Weights & Biases, with what tells its fit set and its version.

    Args:
        loggers: Those that keep no artifacts are passed by.
        folder: Of the model.
        record: Its ``model.json``.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            told = ("fit_set", "fingerprint", "bits", "seed", "choices", "versions", "format")
            metadata = {key: record[key] for key in told if key in record}
            artifact = wandb.Artifact(f"model-{logger.experiment.id}", type="model", metadata=metadata)
            artifact.add_dir(str(folder))
            logger.experiment.log_artifact(artifact)


def close(loggers: "Sequence[Logger]") -> None:
    """Write out what the loggers still hold; the next run of a sweep starts fresh ones."""
    for logger in loggers:
        logger.finalize("success")
        if isinstance(logger, WandbLogger):
            import wandb

            wandb.finish()
