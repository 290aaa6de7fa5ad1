"""The folder of a run, or of a sweep: one process at a time writes there."""

import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from niphash.apps.session import INPUT_ERROR, user_errors
from niphash.data.writing import check_folder
from niphash.errors import InputError, writing
from niphash.parallel import process_rank

LOCK = ".niphash.lock"


def claim(folder: Path) -> FileLock:
    """Return the lock of a folder that a run writes to, held until this process ends or gives it back.

    Raises:
        InputError: another process holds it, or the folder cannot be written.
    """
    check_folder(folder, "hydra.run.dir")
    with writing(folder, "name another folder by hydra.run.dir"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise InputError(
                f"{folder}: another run is writing here; wait until it has ended, or choose another "
                "hydra.run.dir"
            ) from None
    return lock


class RunFolder(Callback):
    """Claims the folder of a run, or of a sweep, before Hydra writes into it."""

    def __init__(self) -> None:
        self._lock: FileLock | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return a state without the lock: processes of a launcher are sent callbacks and claim nothing."""
        return {"_lock": None}

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim ``hydra.run.dir``; exit with a sentence where another run has it."""
        self._claim(config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim ``hydra.sweep.dir``, and say that a sweep writes there and nowhere else."""
        self._claim(config.hydra.sweep.dir)
        if any(override.startswith("hydra.run.dir=") for override in config.hydra.overrides.hydra):
            print(
                f"a sweep writes to numbered folders in {config.hydra.sweep.dir}; hydra.run.dir is for one "
                "run, set hydra.sweep.dir in its place",
                file=sys.stderr,
            )

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and write the table of the sweep; exit status 2 where a run of it failed."""
        self._release()
        if process_rank() == 0:
            from niphash.pipeline.sweeps import report_sweep

            with user_errors():
                failed = report_sweep(Path(config.hydra.sweep.dir), str(config.get("objective", "mAP")))
            if failed:
                raise SystemExit(INPUT_ERROR)

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Give the folder back."""
        self._release()

    def _claim(self, folder: str) -> None:
        if process_rank() == 0:
            with user_errors():  # Hydra would print an error of a callback as a warning, and go on
                self._lock = claim(Path(folder))

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
