"""A callback that holds a training still at a defined moment, so that a test can act then."""

import time
from pathlib import Path

import pytorch_lightning as pl


class Pause(pl.Callback):
    """Make ``flag`` after an epoch of a stage, and wait to be interrupted.

    Args:
        flag: A file.
        stage: Name of the stage.
        epoch: Its epoch, counted from 0.
    """

    def __init__(self, flag: str, stage: str, epoch: int) -> None:
        self.flag, self.stage, self.epoch = Path(flag), stage, epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait, a minute at most."""
        if pl_module.name == self.stage and trainer.current_epoch == self.epoch:
            self.flag.touch()
            end = time.monotonic() + 60
            while time.monotonic() < end and not trainer.interrupted and not trainer.received_sigterm:
                time.sleep(0.01)
