"""The backbone stage from end to end: unlabelled photos in, the weights of a backbone out."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_only

from niphash import options
from niphash.data.images import ImageSet
from niphash.data.pictures.strong_views import StrongView
from niphash.descriptors.classifier.classifier_training import Fit
from niphash.descriptors.contrastive.contrastive import Contrastive
from niphash.descriptors.contrastive.view_batches import SmallPhotos, ViewBatches, read_small
from niphash.descriptors.describer import Skipped, unreadable
from niphash.descriptors.network.map_backbone import SMALLEST_INPUT, MapBackbone
from niphash.descriptors.network.pooling import Pooling
from niphash.errors import InputError, writing

log = logging.getLogger(__name__)

#: Longer side of the photos kept in memory, in sides of the input: crops of them are still sharp.
KEPT_SIDES = 1.5
#: Fewest photos to measure on: with one, every view finds its photo.
FEWEST_HELD_OUT = 2

check_number = partial(options.check_number, group="contrastive")


def train_backbone(
    images: ImageSet,
    backbone: Any,
    pooling: Any,
    run_dir: Path | str,
    fit: Fit,
    views: StrongView,
    first_size: int | None = None,
    batch_size: int = 64,
    epochs: int = 30,
    steps: int | None = None,
    validation: float = 0.05,
    workers: int = 0,
    seed: int = 0,
    learning_rate: float = 1e-4,
    weight_decay: float = 1e-4,
    temperature: float = 0.05,
    spreading: float = 1.0,
    memory: int = 0,
    warmup: float = 0.05,
    clip_norm: float = 1.0,
    keep_statistics: bool = True,
    frozen: Sequence[str] = (),
) -> dict[str, Any]:
    """Train a backbone on unlabelled photos by views and save its weights.

    Writes ``<run_dir>/backbone.pt`` (``state_dict`` up to the layer, and the ``mean`` and ``std`` of the
    input), which ``backbone.weights`` takes. The weights after the last epoch are kept, not the best on the
    held-out photos. A photo that cannot be read, or is too small for a crop, is skipped and named.

    Args:
        images: The photos.
        backbone: A network up to a layer, with the weights to start from.
        pooling: Its maps to a descriptor; one without views of its own.
        run_dir: Where the result goes.
        fit: Trains the module, or goes on where a run with the same options stopped; see
            :func:`niphash.training.fitting.fit_module`.
        views: Makes strong views.
        first_size: Side of the views in the first epoch, pixels; it rises to that of the backbone, which is
            the default, in equal parts.
        batch_size: Photos a step and process; two views of each go through the network.
        epochs: Rounds of ``steps`` steps; after each comes a measurement and, where due, a checkpoint.
        steps: Steps an epoch; by default as many as go over all photos once.
        validation: Share of the photos held out to measure on.
        workers: Processes that make views.
        seed: Of the split, the order and the views.
        learning_rate: See :class:`Contrastive`, as for the rest.
        weight_decay: As above.
        temperature: As above.
        spreading: As above.
        memory: As above.
        warmup: As above.
        clip_norm: As above.
        keep_statistics: As above.
        frozen: As above.

    Returns:
        ``mAP`` of a strong view of each held-out photo among the held-out photos after the last epoch and
        ``mAP_before``, the numbers of photos (``train``, ``validation``), ``images`` (``read``, ``skipped``,
        ``skipped_files`` with their reasons) and the file ``weights``.

    Raises:
        InputError: the photos, the network or an option cannot be used, or training diverged.
    """
    for option, value in (("batch_size", batch_size), ("epochs", epochs)):
        check_number(option, value, least=1, whole=True)
    if steps is not None:
        check_number("steps", steps, least=1, whole=True)
    for option, value in (("workers", workers), ("seed", seed), ("memory", memory)):
        check_number(option, value, least=0, whole=True)
    for option, positive in (("learning_rate", learning_rate), ("temperature", temperature)):
        check_number(option, positive, above=0)
    for option, weight in (("weight_decay", weight_decay), ("spreading", spreading)):
        check_number(option, weight, least=0)
    check_number("validation", validation, above=0, below=1)
    check_number("clip_norm", clip_norm, above=0)
    check_number("warmup", warmup, least=0, most=1)
    _check_parts(backbone, pooling, frozen)
    sides = _sides(backbone, first_size, epochs)
    dim = _dim(backbone, pooling, sides)
    photos, skipped = read_small(images, round(KEPT_SIDES * sides[-1]))
    train, held_out = _split(photos, skipped, validation, batch_size, seed)
    steps = steps or len(train) // batch_size
    recipe = (learning_rate, weight_decay, temperature, spreading, memory, warmup, clip_norm)
    module = Contrastive(backbone, pooling, dim, *recipe, keep_statistics, frozen, seed)
    batches = ViewBatches(
        train, held_out, views, sides, backbone.input, steps, batch_size, workers=workers, seed=seed
    )
    with torch.random.fork_rng():
        fit(module, batches, max_epochs=epochs)
    path = Path(run_dir) / "backbone.pt"
    _save(module.weights(), path)
    return {
        **module.results(),
        "train": len(train),
        "validation": len(held_out),
        "images": {
            "read": len(photos),
            "skipped": len(skipped),
            "skipped_files": [{"id": photo.image_id, "reason": photo.reason} for photo in skipped],
        },
        "weights": str(path),
    }


@rank_zero_only
def _save(weights: dict[str, Any], path: Path) -> None:
    with writing(path, "make room there, or name another folder by hydra.run.dir"):
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(weights, path)


def _check_parts(backbone: Any, pooling: Any, frozen: Sequence[str]) -> None:
    """Refuse what cannot learn.

    Raises:
        InputError: the backbone is no network of torch, its weights are not finite, it has no such module to
            freeze or nothing else, or the pooling is none of one map.
    """
    if not isinstance(backbone, MapBackbone) or backbone.finished:
        raise InputError(
            f"stage=backbone: a backbone of the kind {type(backbone).__name__} cannot learn from views; "
            "choose backbone=torchvision, backbone=timm or one of their networks, such as backbone=squeezenet"
        )
    if not isinstance(pooling, Pooling) or pooling.orbit_size > 1:
        raise InputError(
            f"stage=backbone: pooling {type(pooling).__name__} is not learned through; choose pooling=mean, "
            "gem, max or another of one map"
        )
    if not all(bool(tensor.isfinite().all()) for tensor in backbone.tensors().values()):
        raise InputError("backbone.weights: holds NaN or infinite values; give other weights")
    learned = [name.removeprefix("network.") for name, p in backbone.named_parameters() if p.numel()]
    for module in frozen:
        if not any(name.startswith(f"{module}.") for name in learned):
            modules = sorted({".".join(name.split(".")[:2]) for name in learned})
            raise InputError(
                f"contrastive.frozen={list(frozen)}: {backbone.title} has no {module} with weights; it has "
                f"{', '.join(modules)} and their parts"
            )
        learned = [name for name in learned if not name.startswith(f"{module}.")]
    if not learned:
        raise InputError(f"contrastive.frozen={list(frozen)}: leaves no weights to learn; name fewer modules")


def _sides(backbone: MapBackbone, first_size: int | None, epochs: int) -> list[int]:
    """Return the side of the views in each epoch, rising from ``first_size`` to the backbone's, by 16 pixels.

    Raises:
        InputError: ``first_size`` is above the backbone's, or too small.
    """
    last = int(backbone.sizes.max())
    if first_size is None:
        return [last] * epochs
    check_number("first_size", first_size, least=SMALLEST_INPUT, most=last, whole=True)
    rising = np.linspace(first_size, last, epochs)[: epochs - 1]
    return [min(last, first_size + 16 * round((side - first_size) / 16)) for side in rising] + [last]


def _dim(backbone: MapBackbone, pooling: Pooling, sides: Sequence[int]) -> int:
    """Return the length of a descriptor of a view, whichever of ``sides`` it has.

    Raises:
        InputError: the network takes no input of such a side, or descriptors differ in length.
    """
    try:
        dims = {pooling.dim(*backbone.map_shape(side, side)) for side in set(sides)}
    except InputError as error:
        raise InputError(
            f"contrastive.first_size={sides[0]}: {backbone.title} takes views of {sides[-1]} pixels alone; "
            "set contrastive.first_size=null"
        ) from error
    if len(dims) > 1:
        raise InputError(
            f"contrastive.first_size={sides[0]}: descriptors by {type(pooling).__name__} then differ in "
            f"length {sorted(dims)}; set contrastive.first_size=null"
        )
    return dims.pop()


def _split(
    photos: SmallPhotos, skipped: Sequence[Skipped], share: float, batch_size: int, seed: int
) -> tuple[SmallPhotos, SmallPhotos]:
    """Return the photos to learn from and those to measure on, drawn at random.

    Raises:
        InputError: too few are left of one or the other.
    """
    for photo in skipped:
        log.warning("photo skipped: %s (%s)", photo.image_id, photo.reason)
    count = len(photos)
    why = f" ({unreadable(skipped, count + len(skipped), 'photos')})" if skipped else ""
    if count < FEWEST_HELD_OUT + 2:
        raise InputError(
            f"{count} photos can be used{why}; a backbone needs {FEWEST_HELD_OUT + 2}, give more by fit.root"
        )
    held_out = round(share * count)
    if not FEWEST_HELD_OUT <= held_out <= count - 2:
        raise InputError(
            f"contrastive.validation={share}: holds out {held_out} of {count} photos{why}; hold out "
            f"{FEWEST_HELD_OUT} at least and leave two to learn from"
        )
    if count - held_out < batch_size:
        raise InputError(
            f"contrastive.batch_size={batch_size}: only {count - held_out} photos are left to learn "
            f"from{why}; give a smaller batch, or more photos by fit.root"
        )
    order = np.random.default_rng(seed).permutation(count)
    return photos.subset(np.sort(order[held_out:])), photos.subset(np.sort(order[:held_out]))
