"""``stage=classifier``: train a backbone on class folders, for ``backbone.weights``."""

from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from niphash.config import build
from niphash.errors import InputError
from niphash.pipeline.assembly import build_logger, check_options, resolved, trainer_factory
from niphash.pipeline.reporting import write_json
from niphash.training import loggers
from niphash.training.fitting import fit_module


def run_classifier(cfg: DictConfig, run_dir: Path | str) -> dict[str, Any]:
    """Train or fine-tune ``cfg.classifier``; write its weights and ``metrics.json`` to the run folder.

    Returns:
        What :func:`niphash.descriptors.classifier.classifier_training.train_classifier` does.

    Raises:
        InputError: an option, the class folders or the starting weights cannot be used.
    """
    check_options(cfg)
    for option in sorted(OmegaConf.missing_keys(cfg.classifier)):
        raise InputError(f"{option} has no value; give one, {option}=<value>")
    run_dir = Path(run_dir)
    train = build(cfg.classifier)
    logger = build_logger(cfg, run_dir)
    logger.log_hyperparams(resolved(cfg))
    fit = partial(fit_module, trainer=trainer_factory(cfg, logger, run_dir), name="classifier")
    metrics = train(run_dir=run_dir, fit=fit)
    write_json(metrics, run_dir / "metrics.json")
    loggers.close(logger)
    _print(metrics)
    return metrics


def _print(metrics: dict[str, Any]) -> None:
    images = metrics["images"]
    print(", ".join(f"{name} {value}" for name, value in metrics.items() if name != "images"))
    if images["skipped"]:
        print(f"{images['skipped']} photos skipped, see images in metrics.json")
