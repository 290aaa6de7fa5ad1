"""The classifier stage: train or fine-tune a torchvision network on class folders; its weights then describe.

The recipe is torchvision's reference one (``references/classification``): random resized crop and flip,
SGD with momentum, label smoothing, linear warm-up and cosine decay. Given weights are fine-tuned at a lower
rate and keep the statistics of their batch normalisation. The norm of the gradient is bounded: a network
without normalisation (SqueezeNet, AlexNet) hands activations in the hundreds to its new head, whose first
steps would otherwise be so long that every logit ends behind a dead ReLU, or at infinity.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms import v2

from niphash.data.images import IMAGE_SUFFIXES, UnreadableImage, read_image
from niphash.descriptors.weights import lay_in, read_state_dict
from niphash.descriptors.zoo import network_of
from niphash.errors import InputError

TrainerFactory = Callable[..., pl.Trainer]
Sample = tuple[Path, int]

SCHEDULES = ("cosine", "constant")
#: Learning rates when none is given: from random weights, between torchvision's for networks with and
#: without batch normalisation (0.1 and 0.01); from given weights.
SCRATCH_RATE, FINE_TUNING_RATE = 0.05, 0.005
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
    """

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
    ) -> None:
        super().__init__()
        self.network = network
        self.learning_rate, self.momentum, self.weight_decay = learning_rate, momentum, weight_decay
        self.label_smoothing, self.warmup, self.schedule = label_smoothing, warmup, schedule
        self.clip_norm, self.keep_statistics = clip_norm, keep_statistics
        tops = [k for k in (1, 5) if k <= classes]
        self.accuracies = nn.ModuleDict(
            {f"accuracy@{k}": MulticlassAccuracy(classes, top_k=k, average="micro") for k in tops}
        )
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; kept statistics stay as they are."""
        super().train(mode)
        if self.keep_statistics:
            for layer in self.network.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

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
        """Bound the norm of the gradient."""
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
        self.log("classifier/validation_loss", loss, sync_dist=True)
        for name, accuracy in self.accuracies.items():
            accuracy(logits, labels)
            self.log(f"classifier/{name}", cast(MulticlassAccuracy, accuracy))

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


class ClassFolders(Dataset[tuple[Tensor, int]]):
    """Photos with the number of their class, through a transform."""

    def __init__(self, samples: list[Sample], transform: Callable[[Image.Image], Tensor]) -> None:
        self.samples, self.transform = samples, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return image [3, H, W] and label.

        Raises:
            InputError: the photo cannot be read.
        """
        path, label = self.samples[index]
        try:
            return self.transform(read_image(path, str(path))), label
        except UnreadableImage as error:
            raise InputError(f"{error}; remove this file from the class folders") from error


def find_samples(
    root: Path | str, validation: float, seed: int
) -> tuple[list[str], list[Sample], list[Sample]]:
    """Find the photos of class folders.

    ``root`` holds ``train/<class>/...`` and ``val/<class>/...`` (the ImageNet layout), or ``<class>/...``,
    of which a random share ``validation`` of every class (at least one photo) is held out.

    Returns:
        The class names in alphabetical order, the photos to train on and the photos to validate on.

    Raises:
        InputError: no such folder, one class only, an empty class, a class in ``val`` that ``train`` lacks.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"classifier.root={root}: no such folder; name one with a folder for each class")
    train, held_out = root / "train", root / "val"
    if train.is_dir() != held_out.is_dir():
        missing = held_out if train.is_dir() else train
        raise InputError(f"{missing}: no such folder; the ImageNet layout needs both train and val")
    by_class = _photos_by_class(train if train.is_dir() else root)
    classes = sorted(by_class)
    if len(classes) < 2:
        raise InputError(f"{root}: holds {len(classes)} class folder(s); a classifier needs at least two")
    if train.is_dir():
        unknown = sorted(set(_photos_by_class(held_out)) - set(classes))
        if unknown:
            raise InputError(f"{held_out / unknown[0]}: this class is not in {train}; add or remove it")
        return classes, _label(by_class, classes), _label(_photos_by_class(held_out), classes)
    rng = np.random.default_rng(seed)
    kept: dict[str, list[Path]] = {}
    split: dict[str, list[Path]] = {}
    for name in classes:
        photos = by_class[name]
        if len(photos) < 2:
            raise InputError(f"{root / name}: one photo only; a class needs two, one of them to validate on")
        order = rng.permutation(len(photos))
        count = min(len(photos) - 1, max(1, round(validation * len(photos))))
        split[name] = [photos[i] for i in order[:count]]
        kept[name] = [photos[i] for i in order[count:]]
    return classes, _label(kept, classes), _label(split, classes)


def _photos_by_class(root: Path) -> dict[str, list[Path]]:
    photos = {
        folder.name: sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    empty = [name for name, found in photos.items() if not found]
    if empty:
        raise InputError(f"{root / empty[0]}: no image in this class folder; fill it or remove it")
    return photos


def _label(by_class: dict[str, list[Path]], classes: list[str]) -> list[Sample]:
    return [(path, label) for label, name in enumerate(classes) for path in by_class.get(name, [])]


def transforms(size: int) -> tuple[Callable[[Image.Image], Tensor], Callable[[Image.Image], Tensor]]:
    """Return torchvision's usual transforms to [3, size, size]: augmenting to train, plain to validate."""
    finish = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    train = v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(), *finish])
    validate = v2.Compose([v2.Resize(round(size / 0.875), antialias=True), v2.CenterCrop(size), *finish])
    return train, validate


def build_network(
    name: str, weights: str, classes: int, data_dir: Path | str | None = None, seed: int = 0
) -> nn.Module:
    """Return a torchvision network for ``classes`` classes.

    Args:
        name: The network's name in torchvision.
        weights: ``default`` (pretrained, downloaded on first use), ``random``, or the path of a state dict.
            Where they were trained for another number of classes, the head alone stays random.
        classes: Number of classes.
        data_dir: Where downloaded weights go.
        seed: Of random weights.

    Raises:
        InputError: no such network, or the state dict of another architecture.
    """
    zoo = network_of("torchvision", name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = zoo.build(classes)
    if weights == "random":
        return network
    state = zoo.pretrained(data_dir) if weights == "default" else read_state_dict(weights)
    with torch.device("meta"):
        as_trained = zoo.build(zoo.class_count(state)).state_dict()
    needed = {key for key, tensor in network.state_dict().items() if as_trained[key].shape == tensor.shape}
    body = {key: tensor for key, tensor in state.items() if key in needed or key not in as_trained}
    lay_in(network, body, needed, f"classifier.weights={weights}", name)
    return network


def train_classifier(
    root: Path | str,
    name: str,
    run_dir: Path | str,
    trainer: TrainerFactory,
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

    Writes ``<run_dir>/classifier.pt``, a plain state dict that ``backbone.weights`` takes, and
    ``<run_dir>/classes.json``, the names of the classes in the order of the outputs.

    Args:
        root: Class folders, see :func:`find_samples`.
        name: A network of torchvision.
        run_dir: Where the results go.
        trainer: Makes the Lightning trainer.
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
        epoch, the numbers of ``classes`` and of photos (``train``, ``validation``), and the file ``weights``.

    Raises:
        InputError: the folders, the name, the weights or a number cannot be used, or training diverged.
    """
    if learning_rate is None:
        learning_rate = SCRATCH_RATE if weights == "random" else FINE_TUNING_RATE
    _check(size=size, batch_size=batch_size, epochs=epochs, learning_rate=learning_rate)
    if schedule not in SCHEDULES:
        raise InputError(f"classifier.schedule={schedule}: choose one of {', '.join(SCHEDULES)}")
    classes, train, held_out = find_samples(root, validation, seed)
    network = build_network(name, str(weights), len(classes), data_dir, seed)
    recipe = (learning_rate, momentum, weight_decay, label_smoothing, warmup, schedule, clip_norm)
    module = Classifier(network, len(classes), *recipe, keep_statistics=weights != "random")
    augment, plain = transforms(size)
    made = trainer(max_epochs=epochs)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made.fit(
            module,
            _loader(ClassFolders(train, augment), min(batch_size, len(train)), workers, shuffle=True),
            _loader(ClassFolders(held_out, plain), batch_size, workers, shuffle=False),
        )
    run_dir = Path(run_dir)
    path = run_dir / "classifier.pt"
    if made.is_global_zero:
        run_dir.mkdir(parents=True, exist_ok=True)
        torch.save({key: tensor.cpu() for key, tensor in module.network.state_dict().items()}, path)
        (run_dir / "classes.json").write_text(json.dumps(classes, indent=1))
    logged = {
        key.removeprefix("classifier/"): float(value)
        for key, value in made.callback_metrics.items()
        if key.startswith(("classifier/accuracy", "classifier/validation"))
    }
    return {
        **logged,
        "classes": len(classes),
        "train": len(train),
        "validation": len(held_out),
        "weights": str(path),
    }


def _loader(photos: ClassFolders, batch_size: int, workers: int, shuffle: bool) -> DataLoader:
    return DataLoader(
        photos,
        batch_size,
        shuffle=shuffle,
        num_workers=workers,
        # a batch of one photo has no batch statistics
        drop_last=shuffle and len(photos) % batch_size == 1,
    )


def _check(**numbers: float) -> None:
    for key, value in numbers.items():
        if not value > 0:
            raise InputError(f"classifier.{key}={value}: give a number above 0")
