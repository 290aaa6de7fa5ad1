"""``stage=classifier``: train a backbone on class folders, for ``backbone.weights``."""

from functools import partial
from typing import Any

from niphash.pipeline.reporting import METRICS, write_json
from niphash.pipeline.run import Run
from niphash.training import loggers
from niphash.training.fitting import fit_module


def run_classifier(run: Run) -> dict[str, Any]:
    """Train or fine-tune ``conf/classifier``; write its weights and ``metrics.json`` to the run folder.

    Returns:
        What :func:`niphash.descriptors.classifier.classifier_training.train_classifier` does.

    Raises:
        InputError: an option, the class folders or the starting weights cannot be used.
    """
    train = run.part("classifier")
    for logger in run.loggers:
        logger.log_hyperparams(run.record)
    fit = partial(fit_module, trainer=run.trainer, name="classifier")
    return report(run, train(run_dir=run.folder, fit=fit))


def report(run: Run, metrics: dict[str, Any]) -> dict[str, Any]:
    """Print what a training of a backbone came to, write it to ``metrics.json``, close the loggers."""
    images = metrics["images"]
    print(", ".join(f"{name} {value}" for name, value in metrics.items() if name != "images"))
    if images["skipped"]:
        print(f"{images['skipped']} photos skipped, see images in metrics.json")
    loggers.close(run.loggers)
    write_json(metrics, run.folder / METRICS)
    return metrics
