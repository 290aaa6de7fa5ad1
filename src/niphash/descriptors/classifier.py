"""The classifier stage: train or fine-tune a torchvision network on class folders; its weights then describe.

The recipe is torchvision's reference one (``references/classification``): random resized crop and flip,
SGD with momentum, label smoothing, linear warm-up and cosine decay. Given weights are fine-tuned at a lower
rate and keep the statistics of their batch normalisation. The norm of the gradient is bounded: a network
without normalisation (SqueezeNet, AlexNet) hands activations in the hundreds to its new head, whose first
steps would otherwise be so long that every logit ends behind a dead ReLU, or at infinity.
"""

import copy
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from niphash.descriptors.class_folders import (
    ClassBatches,
    Sample,
    derived_seed,
    find_samples,
    photos_fingerprint,
    transforms,
    without_unreadable,
)
from niphash.descriptors.describer import Skipped
from niphash.descriptors.fingerprint import fingerprint
from niphash.descriptors.weights import lay_in, read_weights
from niphash.descriptors.zoo import network_of
from niphash.errors import InputError

#: Fits a module on the batches of a data module: ``fit(module, batches, max_epochs=..., identity=...)``.
Fit = Callable[..., None]

log = logging.getLogger(__name__)

SCHEDULES = ("cosine", "constant")
#: Learning rates when none is given: from random weights, between torchvision's for networks with and
#: without batch normalisation (0.1 and 0.01); from given weights.
SCRATCH_RATE, FINE_TUNING_RATE = 0.05, 0.005


class Classifier(pl.LightningModule):
    """A classification network and how it is trained.

    Args:
        network: float32 [B, 3, H, W] to logits [B, classes]; a pair of logits (the main, the auxiliary) is
            taken apart.
        classes: Number of classes.
        learning_rate: At the end of the warm-up.
        momentum: Of SGD.
        weight_decay: Of SGD.
        label_smoothing: Share of the target spread over all classes (Szegedy et al., CVPR 2016, section 7).
        warmup: Share of the steps over which the rate rises linearly from a hundredth.
        schedule: ``"cosine"`` to zero after the warm-up (Loshchilov & Hutter, ICLR 2017), or ``"constant"``.
        clip_norm: Largest L2 norm of the gradient of all weights, which is shrunk to it (Pascanu et al., ICML
            2013); any when not given.
        keep_statistics: Whether batch normalisation uses the statistics that came with the weights in place
            of the batch's, which do not fit weights whose normalisation was folded into convolutions.
        seed: Of what the network itself draws (dropout).

    What was measured on the held-out photos after the last epoch is a buffer, and so part of checkpoints.
    """

    measured: Tensor

    def __init__(
        self,
        network: nn.Module,
        classes: int,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        label_smoothing: float = 0.1,
        warmup: float = 0.05,
        schedule: str = "cosine",
        clip_norm: float | None = 1.0,
        keep_statistics: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.learning_rate, self.momentum, self.weight_decay = learning_rate, momentum, weight_decay
        self.label_smoothing, self.warmup, self.schedule = label_smoothing, warmup, schedule
        self.clip_norm, self.keep_statistics, self.seed = clip_norm, keep_statistics, seed
        tops = [k for k in (1, 5) if k <= classes]
        self.accuracies = nn.ModuleDict(
            {f"accuracy@{k}": MulticlassAccuracy(classes, top_k=k, average="micro") for k in tops}
        )
        self.validation_loss = MeanMetric()
        self.alive = True
        self.register_buffer("measured", torch.full((len(tops) + 1,), torch.nan))
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; kept statistics stay as they are."""
        super().train(mode)
        if self.keep_statistics:
            for layer in self.network.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def on_train_epoch_start(self) -> None:
        """Make what the network draws depend on seed, epoch and process alone, so that a run can go on."""
        torch.manual_seed(derived_seed(self.seed, self.current_epoch, self.global_rank))
        self.alive = False

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Return the smoothed cross entropy of images [B, 3, H, W] and labels [B].

        Raises:
            InputError: it is not finite.
        """
        images, labels = batch
        outputs = self.network(images)
        main, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = F.cross_entropy(main, labels, label_smoothing=self.label_smoothing)
        for logits in auxiliary:
            if logits is not None:
                loss = loss + 0.4 * F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self._check_finite(loss)
        self.log("classifier/loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def _check_finite(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise InputError(
                f"classifier.learning_rate={self.learning_rate}: training diverged (the loss is {loss:.3g} "
                f"in epoch {self.current_epoch + 1}); give a lower rate"
            )

    def configure_gradient_clipping(self, optimizer: Any, *trainers_own: Any, **options: Any) -> None:
        """Bound the norm of the gradient, and note whether there is any."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.alive = self.alive or any(bool(gradient.any()) for gradient in gradients)
        if self.clip_norm is not None:
            self.clip_gradients(optimizer, self.clip_norm, "norm")

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Count what is right.

        Raises:
            InputError: the loss is not finite.
        """
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        self._check_finite(loss)
        self.validation_loss(loss, weight=len(labels))
        for accuracy in self.accuracies.values():
            accuracy(logits, labels)
        for name, metric in self._metrics().items():
            self.log(f"classifier/{name}", metric, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        """Keep the result of this epoch.

        Raises:
            InputError: no step of the epoch had a gradient (SqueezeNet ends in a ReLU, which can die).
        """
        if not (self.trainer.sanity_checking or self.alive):
            raise InputError(
                f"classifier.learning_rate={self.learning_rate}: the network died (no gradient in epoch "
                f"{self.current_epoch + 1}); give a lower rate, or other classifier.weights to start from"
            )
        self.measured = torch.stack([metric.compute() for metric in self._metrics().values()]).detach()

    def results(self) -> dict[str, float]:
        """Return ``accuracy@1``, ``accuracy@5`` (of five classes or more) and ``validation_loss``."""
        return dict(zip(self._metrics(), self.measured.tolist(), strict=True))

    def _metrics(self) -> dict[str, Metric]:
        return {
            **cast(dict[str, Metric], dict(self.accuracies.items())),
            "validation_loss": self.validation_loss,
        }

    def configure_optimizers(self) -> Any:
        """Return SGD and its schedule, advanced every step."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(
            parameters, self.learning_rate, self.momentum, weight_decay=self.weight_decay
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: schedule_factor(step, steps, self.warmup, self.schedule)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def schedule_factor(step: int, steps: int, warmup: float, schedule: str) -> float:
    """Return the share of the full learning rate at ``step`` of ``steps``; see :class:`Classifier`."""
    rising = int(warmup * steps)
    if step < rising:
        return 0.01 + 0.99 * step / rising
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + float(np.cos(np.pi * min(1.0, (step - rising) / max(1, steps - rising)))))


def build_network(
    name: str, weights: str, classes: int, data_dir: Path | str | None = None, seed: int = 0
) -> tuple[nn.Module, list[float], list[float]]:
    """Return a torchvision network for ``classes`` classes, and the RGB mean and deviation of its input.

    Args:
        name: The network's name in torchvision.
        weights: ``default`` (pretrained, downloaded on first use), ``random``, or the path of a state dict.
            Where they were trained for another number of classes, the head alone stays random.
        classes: Number of classes.
        data_dir: Where downloaded weights go.
        seed: Of random weights.

    Raises:
        InputError: no such network, weights that cannot be had or read, those of another architecture, or
            NaN in them.
    """
    zoo = network_of("torchvision", name, "classifier")
    given = None if weights in ("default", "random") else read_weights(weights, "classifier.weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = zoo.build(classes)
    mean, std = (list(values) for values in zoo.normalisation(given))
    if weights == "random":
        return network, mean, std
    state = zoo.pretrained(data_dir) if given is None else given.state
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise InputError(f"classifier.weights={weights}: holds NaN or infinite values; give other weights")
    with torch.device("meta"):
        as_trained = zoo.build(zoo.class_count(state)).state_dict()
    needed = {key for key, tensor in network.state_dict().items() if as_trained[key].shape == tensor.shape}
    body = {key: tensor for key, tensor in state.items() if key in needed or key not in as_trained}
    lay_in(network, body, needed, f"classifier.weights={weights}", name, "classifier.name")
    return network, mean, std


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
        fit: Trains the module, or goes on where a run with the same identity stopped; see
            :func:`niphash.hashing.training.fit_module`.
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
    _check_whole(size=(size, 1), batch_size=(batch_size, 1), epochs=(epochs, 1))
    _check_whole(workers=(workers, 0), seed=(seed, 0))
    _check_range(learning_rate, "learning_rate", "above 0", lambda x: x > 0)
    _check_range(validation, "validation", "above 0 and below 1", lambda x: 0 < x < 1)
    _check_range(momentum, "momentum", "from 0 to below 1", lambda x: 0 <= x < 1)
    _check_range(weight_decay, "weight_decay", "from 0 on", lambda x: x >= 0)
    _check_range(label_smoothing, "label_smoothing", "from 0 to below 1", lambda x: 0 <= x < 1)
    _check_range(warmup, "warmup", "from 0 to 1", lambda x: 0 <= x <= 1)
    if clip_norm is not None:
        _check_range(clip_norm, "clip_norm", "above 0, or null", lambda x: x > 0)
    if schedule not in SCHEDULES:
        raise InputError(f"classifier.schedule={schedule}: choose one of {', '.join(SCHEDULES)}")
    classes, train, held_out = find_samples(str(root), validation, seed)
    network, mean, std = build_network(str(name), str(weights), len(classes), data_dir, seed)
    recipe = (learning_rate, momentum, weight_decay, label_smoothing, warmup, schedule, clip_norm)
    module = Classifier(network, len(classes), *recipe, keep_statistics=weights != "random", seed=seed)
    _check_size(module, str(name), size, min(batch_size, len(train)))
    train, held_out, skipped = _readable(train, held_out, classes)
    batches = ClassBatches(train, held_out, *transforms(size, mean, std), batch_size, workers, seed)
    identity = {
        "network": [name, fingerprint({}, network.state_dict(), ())],
        "photos": photos_fingerprint([*train, *held_out]),
        "input": [size, batch_size, len(train), mean, std],
        "recipe": [epochs, *recipe, seed],
    }
    with torch.random.fork_rng():
        fit(module, batches, max_epochs=epochs, identity=identity)
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


def _check_whole(**options: tuple[Any, int]) -> None:
    for key, (value, least) in options.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"classifier.{key}={value}: give a whole number from {least} on")


def _check_range(value: Any, key: str, words: str, fits: Callable[[float], bool]) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not fits(value):
        raise InputError(f"classifier.{key}={value}: give a number {words}")
