"""Experiment loggers: Weights & Biases that falls back to offline, and pictures on any logger."""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger, WandbLogger

WANDB_HOST = "api.wandb.ai"


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
    return WandbLogger(save_dir=save_dir, offline=offline, **settings)


def _wandb_reachable(timeout_s: float = 2.0) -> bool:
    import wandb

    if not wandb.api.api_key:
        return False
    try:
        socket.create_connection((WANDB_HOST, 443), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def log_picture(logger: "Logger", name: str, path: Path) -> None:
    """Put a PNG file on the logger, where it can show one."""
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

    if isinstance(logger, WandbLogger):
        logger.log_image(name, [str(path)])
    elif isinstance(logger, TensorBoardLogger):
        import numpy as np
        from PIL import Image

        logger.experiment.add_image(name, np.asarray(Image.open(path).convert("RGB")), dataformats="HWC")


def close(logger: "Logger") -> None:
    """Write out what the logger still holds; the next run of a sweep starts a fresh one."""
    from pytorch_lightning.loggers import WandbLogger

    logger.finalize("success")
    if isinstance(logger, WandbLogger):
        import wandb

        wandb.finish()
