"""``stage=classifier``: train a backbone on class folders, for ``backbone.weights``."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from niphash import loggers
from niphash.config import build
from niphash.pipeline.assembly import build_logger, resolved, trainer_factory
from niphash.pipeline.reporting import write_json


def run_classifier(cfg: DictConfig, run_dir: Path | str) -> dict[str, Any]:
    """Train or fine-tune ``cfg.classifier``; write its weights and ``metrics.json`` to the run folder.

    Returns:
        Accuracy@1 and @5 on the held-out photos, and where the weights are.

    Raises:
        InputError: the class folders or the starting weights cannot be used.
    """
    run_dir = Path(run_dir)
    logger = build_logger(cfg, run_dir)
    logger.log_hyperparams(resolved(cfg))
    train = build(cfg.classifier)
    metrics = train(run_dir=run_dir, trainer=trainer_factory(cfg, logger, run_dir))
    write_json(metrics, run_dir / "metrics.json")
    loggers.close(logger)
    print(", ".join(f"{name} {value}" for name, value in metrics.items()))
    return metrics
