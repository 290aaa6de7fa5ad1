"""A training that waits at a defined moment, so that a test can end it there on any machine."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl


class Pause(pl.Callback):
    """Waits after an epoch, once, for a signal.

    Args:
        metric: Of the stage that waits.
        epoch: Number of the epoch, from 0.
        reached: File that appears when the moment has come.
    """

    def __init__(self, metric: str, epoch: int, reached: str) -> None:
        self.metric, self.epoch, self.reached = metric, epoch, Path(reached)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Wait for Ctrl-C, or until Lightning has noted SIGTERM."""
        if self.metric in trainer.callback_metrics and trainer.current_epoch == self.epoch:
            self.reached.touch()
            while not trainer.received_sigterm:
                time.sleep(0.01)
