"""The Lightning trainer of every learnable stage."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch

from niphash.errors import InputError

if TYPE_CHECKING:  # imported where a trainer is made: searching with a trained model needs none
    import pytorch_lightning as pl


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether ``device`` has instructions for bfloat16 products."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


#: Makes a Lightning ``Trainer``; keyword arguments (``max_epochs=``, ``default_root_dir=``, ...) override
#: what ``conf/trainer`` says.
TrainerFactory = Callable[..., "pl.Trainer"]


def lightning_trainer(precision: str = "auto", **options: Any) -> "pl.Trainer":
    """Return a Lightning trainer: what ``conf/trainer`` calls.

    Args:
        precision: Lightning's name, or ``auto``: bf16 where the device computes it fast.
        options: Of ``pytorch_lightning.Trainer``.
    """
    import pytorch_lightning as pl

    if precision == "auto":
        device = torch.device("cuda" if options.get("accelerator") == "gpu" else "cpu")
        precision = "bf16-mixed" if has_fast_bf16(device) else "32-true"
    return pl.Trainer(precision=cast(Any, precision), **options)


def check_trainer(make: TrainerFactory) -> "pl.Trainer":
    """Return a trainer, made so that options it does not take are refused before any work.

    Raises:
        InputError: Lightning refuses them; its own words say why.
    """
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    with _quiet():
        try:
            return make()
        except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
            why = str(error).splitlines()[0].rstrip(". ")
            raise InputError(f"no trainer can be made ({why}); choose other trainer options") from error


def quiet_cpu_trainer(**options: Any) -> "pl.Trainer":
    """Return a trainer on the CPU, of one process unless asked, that neither prints nor writes."""
    import pytorch_lightning as pl

    quiet: dict[str, Any] = {"enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "logger": False, "devices": 1}
    return pl.Trainer(accelerator="cpu", **{**quiet, **options})


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
