"""``stage=backbone``: train a network on unlabelled photos by views, for ``backbone.weights``."""

from functools import partial
from typing import Any

from niphash.pipeline.classifying import report
from niphash.pipeline.fitting import choose_fit_set
from niphash.pipeline.run import Run
from niphash.training.fitting import fit_module


def run_backbone(run: Run) -> dict[str, Any]:
    """Train ``backbone`` and ``pooling`` as ``conf/contrastive`` says, on the photos that ``fit`` names.

    Writes the weights and ``metrics.json`` to the run folder.

    Returns:
        What :func:`niphash.descriptors.contrastive.contrastive_training.train_backbone` does.

    Raises:
        InputError: an option, the photos or the starting weights cannot be used.
    """
    train = run.part("contrastive")
    backbone, pooling = run.part("backbone")(), run.part("pooling")()
    fit = partial(fit_module, trainer=run.trainer, name="backbone")
    run.targets[0].data.prepare()
    images = choose_fit_set(run.fit, run.targets[0].data, run.data_set, run.seed).images
    for logger in run.loggers:
        logger.log_hyperparams(run.record)
    return report(run, train(images, backbone, pooling, run.folder, fit))
