"""The Lightning trainer of every learnable stage."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch

from niphash.errors import InputError

if TYPE_CHECKING:  # imported where a trainer is made: searching with a trained model needs none
    import pytorch_lightning as pl

#: Makes a Lightning ``Trainer``; keyword arguments (``max_epochs=``, ``callbacks=``, ...) add what a stage
#: and a run decide to the options of the user.
TrainerFactory = Callable[..., "pl.Trainer"]

LIGHTNING = ("pytorch_lightning", "lightning_fabric")
#: Options of Lightning's trainer that belong to a stage or to the run, and what a user sets in their place.
DECIDED = {
    "max_epochs": "set hashing.max_epochs, hashing.iterations, classifier.epochs or contrastive.epochs",
    "reload_dataloaders_every_n_epochs": "leave it out, every stage draws its batches anew each epoch",
    "enable_checkpointing": "leave it out, a ModelCheckpoint in conf/callbacks is enough",
    "callbacks": "put callbacks into conf/callbacks",
    "logger": "choose logger=csv, tensorboard or wandb",
    "default_root_dir": "set hydra.run.dir",
}


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether ``device`` has instructions for bfloat16 products."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def stage_trainers(precision: str = "auto", **options: Any) -> TrainerFactory:
    """Return what makes the trainer of each learnable stage: what ``conf/trainer`` calls.

    Args:
        precision: Lightning's name, or ``auto``: bf16 where the device computes it fast.
        options: Keyword arguments of ``pytorch_lightning.Trainer``.

    Raises:
        InputError: an option that a stage or the run decides.
    """
    for option in DECIDED:
        if option in options:
            raise InputError(f"trainer.{option}={options[option]}: {DECIDED[option]}")
    return partial(lightning_trainer, precision=precision, **options)


def lightning_trainer(precision: str = "auto", **options: Any) -> "pl.Trainer":
    """Return a Lightning trainer; it has no ``ModelCheckpoint`` but those of the user.

    Args:
        precision: See :func:`stage_trainers`.
        options: Keyword arguments of ``pytorch_lightning.Trainer``.
    """
    import pytorch_lightning as pl

    if precision == "auto":
        device = torch.device("cuda" if options.get("accelerator") == "gpu" else "cpu")
        precision = "bf16-mixed" if has_fast_bf16(device) else "32-true"
    given = any(isinstance(callback, pl.callbacks.Checkpoint) for callback in options.get("callbacks") or ())
    return pl.Trainer(precision=cast(Any, precision), **{"enable_checkpointing": given, **options})


def with_callbacks(make: TrainerFactory, callbacks: "Callable[[], list[pl.Callback]]") -> TrainerFactory:
    """Return a factory like ``make`` whose every trainer has callbacks of its own, made by ``callbacks``."""
    return lambda **options: make(**{"callbacks": callbacks(), **options})


def check_trainer(make: TrainerFactory) -> "pl.Trainer":
    """Return a trainer, made so that options it does not take are refused before any work.

    Raises:
        InputError: Lightning refuses them; its own words say why.
    """
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    with quiet():
        try:
            return make()
        except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
            why = str(error).splitlines()[0].rstrip(". ")
            raise InputError(f"no trainer can be made ({why}); choose other trainer options") from error


def quiet_cpu_trainer(**options: Any) -> "pl.Trainer":
    """Return a trainer on the CPU, of one process by default, that neither prints nor writes."""
    defaults: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    defaults |= {"logger": False, "devices": 1, "accelerator": "cpu", "precision": "32-true"}
    return lightning_trainer(**{**defaults, **options})


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's advice (workers, devices, tips) off the terminal; errors pass."""
    levels = {module: logging.getLogger(module).level for module in LIGHTNING}
    with warnings.catch_warnings():
        silence()
        try:
            yield
        finally:
            for module, level in levels.items():
                logging.getLogger(module).setLevel(level)


def silence() -> None:
    """Keep Lightning's advice off the terminal from now on."""
    import pytorch_lightning  # noqa: F401 - whose first import sets the levels of its loggers

    for module in LIGHTNING:
        logging.getLogger(module).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=module)
