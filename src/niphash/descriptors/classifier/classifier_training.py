"""The classifier stage from end to end: class folders in, the weights of a backbone out."""

import copy
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_only

from niphash import options
from niphash.descriptors.classifier.class_folders import (
    ClassBatches,
    Sample,
    find_samples,
    without_unreadable,
)
from niphash.descriptors.classifier.classifier import SCHEDULES, Classifier, build_network
from niphash.descriptors.describer import Skipped
from niphash.errors import InputError

#: Fits a module on the batches of a data module: ``fit(module, batches, max_epochs=...)``.
Fit = Callable[..., None]

log = logging.getLogger(__name__)

#: Learning rates when none is given: from random weights, between torchvision's for networks with and
#: without batch normalisation (0.1 and 0.01); from given weights.
SCRATCH_RATE, FINE_TUNING_RATE = 0.05, 0.005

check_number = partial(options.check_number, group="classifier")


def train_classifier(
    root: Path | str,
    name: str,
    run_dir: Path | str,
    fit: Fit,
    weights: str = "default",
    data_dir: Path | str | None = None,
    size: int = 224,
    batch_size: int = 32,
    epochs: int = 10,
    validation: float = 0.1,
    workers: int = 0,
    seed: int = 0,
    learning_rate: float | None = None,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    label_smoothing: float = 0.1,
    warmup: float = 0.05,
    schedule: str = "cosine",
    clip_norm: float | None = 1.0,
) -> dict[str, Any]:
    """Train or fine-tune a network on class folders and save its weights.

    Writes ``<run_dir>/classifier.pt`` (``state_dict``, and the ``mean`` and ``std`` of the input), which
    ``backbone.weights`` takes, and ``<run_dir>/classes.json``, the names of the classes in the order of the
    outputs. A photo that cannot be read is skipped and named.

    Args:
        root: Class folders, see :func:`find_samples`.
        name: A network of torchvision.
        run_dir: Where the results go.
        fit: Trains the module, or goes on where a run with the same options stopped; see
            :func:`niphash.training.fitting.fit_module`.
        weights: To start from, see :func:`build_network`.
        data_dir: Where downloaded weights go.
        size: Side of the input, pixels.
        batch_size: Photos a step and process.
        epochs: Passes over the training photos.
        validation: Share held out where there is no ``val`` folder.
        workers: Processes that read photos.
        seed: Of the split, the head, the order and the augmentation.
        learning_rate: See :class:`Classifier`, as for the rest; by default lower from given weights.
        momentum: As above.
        weight_decay: As above.
        label_smoothing: As above.
        warmup: As above.
        schedule: As above.
        clip_norm: As above.

    Returns:
        ``accuracy@1``, ``accuracy@5`` (with five classes or more) and ``validation_loss`` after the last
        epoch, the numbers of ``classes`` and of photos (``train``, ``validation``), ``images`` (``read``,
        ``skipped``, ``skipped_files`` with their reasons) and the file ``weights``.

    Raises:
        InputError: the folders, the name, the weights or a number cannot be used, or training diverged.
    """
    if learning_rate is None:
        learning_rate = SCRATCH_RATE if weights == "random" else FINE_TUNING_RATE
    for option, value in (("size", size), ("batch_size", batch_size), ("epochs", epochs)):
        check_number(option, value, least=1, whole=True)
    for option, value in (("workers", workers), ("seed", seed)):
        check_number(option, value, least=0, whole=True)
    check_number("learning_rate", learning_rate, above=0)
    check_number("validation", validation, above=0, below=1)
    check_number("momentum", momentum, least=0, below=1)
    check_number("weight_decay", weight_decay, least=0)
    check_number("label_smoothing", label_smoothing, least=0, below=1)
    check_number("warmup", warmup, least=0, most=1)
    if clip_norm is not None:
        check_number("clip_norm", clip_norm, above=0)
    options.check_choice("schedule", schedule, SCHEDULES, group="classifier")
    classes, train, held_out = find_samples(str(root), validation, seed)
    network, mean, std = build_network(str(name), str(weights), len(classes), data_dir, seed)
    recipe = (learning_rate, momentum, weight_decay, label_smoothing, warmup, schedule, clip_norm)
    module = Classifier(network, len(classes), *recipe, keep_statistics=weights != "random", seed=seed)
    _check_size(module, str(name), size, min(batch_size, len(train)))
    train, held_out, skipped = _readable(train, held_out, classes)
    batches = ClassBatches(train, held_out, size, mean, std, batch_size, workers, seed)
    with torch.random.fork_rng():
        fit(module, batches, max_epochs=epochs)
    path = Path(run_dir) / "classifier.pt"
    normalisation = {"mean": torch.tensor(mean), "std": torch.tensor(std)}
    _save({"state_dict": module.network.state_dict(), **normalisation}, classes, path)
    return {
        **module.results(),
        "classes": len(classes),
        "train": len(train),
        "validation": len(held_out),
        "images": {
            "read": len(train) + len(held_out),
            "skipped": len(skipped),
            "skipped_files": [{"id": photo.image_id, "reason": photo.reason} for photo in skipped],
        },
        "weights": str(path),
    }


@rank_zero_only
def _save(weights: dict[str, Any], classes: list[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, path)
    (path.parent / "classes.json").write_text(json.dumps(classes, indent=1))


def _readable(
    train: list[Sample], held_out: list[Sample], classes: list[str]
) -> tuple[list[Sample], list[Sample], list[Skipped]]:
    """Return both parts without the photos that cannot be read, and those.

    Raises:
        InputError: a class is left without a photo to train on, or none is left to validate on.
    """
    train, broken = without_unreadable(train)
    held_out, broken_held_out = without_unreadable(held_out)
    skipped = [*broken, *broken_held_out]
    for photo in skipped:
        log.warning("photo skipped: %s (%s)", photo.image_id, photo.reason)
    missing = sorted(set(range(len(classes))) - {label for _, label in train})
    if missing or not held_out:
        what = f"of class {classes[missing[0]]} to train on" if missing else "to validate on"
        why = f"{skipped[0].image_id} ({skipped[0].reason})"
        raise InputError(f"classifier.root: no photo {what} can be read, the first that cannot is {why}")
    return train, held_out, skipped


def _check_size(module: Classifier, name: str, size: int, batch_size: int) -> None:
    """Send a batch without content through a copy of the network.

    Raises:
        InputError: the network takes no such input.
    """
    trial = copy.deepcopy(module.network).to("meta")
    try:
        trial(torch.empty(batch_size, 3, size, size, device="meta"))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"classifier.size={size}: {name} cannot learn from {batch_size} photos of {size} x {size} pixels "
            f"({reason}); choose another size"
        ) from error
