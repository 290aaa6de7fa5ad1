"""What every learnable stage is: a LightningModule with a name, plain hyperparameters, a loss to watch."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch


class Stage(pl.LightningModule):
    """A network, or a layer of one, that learns.

    Its curves are logged under ``<name>/``. Callbacks may monitor them by that name, or ``loss`` and, where
    there are held-out rows that the stage can be judged by, ``val_loss``, which every stage has of its own.

    Args:
        name: Prefix of the curves, and name of the checkpoint.
        hyperparameters: Every option that decides what is learned, as plain values; saved with the module.
    """

    def __init__(self, name: str, hyperparameters: Mapping[str, Any]) -> None:
        super().__init__()
        self.name = name
        self.save_hyperparameters(dict(hyperparameters), logger=False)  # the run has logged its options

    def log_values(
        self, values: Mapping[str, torch.Tensor], monitored: Mapping[str, torch.Tensor], batch_size: int = 1
    ) -> None:
        """Log the means over an epoch.

        Args:
            values: Scalars by name, logged under ``<name>/``.
            monitored: Scalars by the name that is the same in every stage, for callbacks alone.
            batch_size: Weight of the values in their means.
        """
        curves = {f"{self.name}/{key}": value for key, value in values.items()}
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "sync_dist": True}
        self.log_dict(curves, batch_size=batch_size, **options)
        self.log_dict(dict(monitored), batch_size=batch_size, logger=False, **options)
