"""Class folders: the photos to train a classifier on, split, checked, augmented and batched."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from niphash.data.decode import UnreadableImage, check_photo
from niphash.data.images import read_image
from niphash.data.survey import image_files, is_system_folder
from niphash.descriptors.describer import Skipped
from niphash.errors import InputError
from niphash.parallel import map_ahead
from niphash.progress import track
from niphash.training.schedule import derived_seed
from niphash.training.streams import StageBatches

Sample = tuple[Path, int]
Transform = Callable[[Image.Image], Tensor]


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
        folder.name: image_files(folder)
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not is_system_folder(folder.name)
    }
    empty = [name for name, found in photos.items() if not found]
    if empty:
        raise InputError(f"{root / empty[0]}: no image in this class folder; fill it or remove it")
    return photos


def _label(by_class: dict[str, list[Path]], classes: list[str]) -> list[Sample]:
    return [(path, label) for label, name in enumerate(classes) for path in by_class.get(name, [])]


def without_unreadable(samples: Sequence[Sample]) -> tuple[list[Sample], list[Skipped]]:
    """Return the photos that can be read, and the others with the reason.

    Every photo is decoded (JPEGs at an eighth of their size, which still meets a file that ends too early):
    a training of days is not to end at one of them.
    """
    kept, skipped = [], []
    reasons = map_ahead(_why_unreadable, (path for path, _ in samples))
    for row, reason in enumerate(track(reasons, "check photos", len(samples))):
        if reason is None:
            kept.append(samples[row])
        else:
            skipped.append(Skipped(row, str(samples[row][0]), reason))
    return kept, skipped


def _why_unreadable(path: Path) -> str | None:
    try:
        check_photo(path, str(path))
    except UnreadableImage as error:
        return error.reason
    return None


def transforms(size: int, mean: Sequence[float], std: Sequence[float]) -> tuple[Transform, Transform]:
    """Return torchvision's usual transforms to [3, size, size]: augmenting to train, plain to validate."""
    finish = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]
    train = v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(), *finish])
    validate = v2.Compose([v2.Resize(round(size / 0.875), antialias=True), v2.CenterCrop(size), *finish])
    return train, validate


class ClassPhotos(Dataset[tuple[Tensor, int]]):
    """Photos with the number of their class, through a transform.

    What the transform draws is decided by ``seeds`` and the photo's number, whichever process reads it.
    """

    def __init__(self, samples: Sequence[Sample], transform: Transform, seeds: Sequence[int]) -> None:
        self.samples, self.transform, self.seeds = samples, transform, tuple(seeds)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return image [3, H, W] and label."""
        path, label = self.samples[index]
        image = read_image(path, str(path))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derived_seed(*self.seeds, index))
            return self.transform(image), label


class ClassBatches(StageBatches):
    """The batches of both parts of class folders; order and augmentation depend on seed and epoch alone.

    Args:
        train: The photos to learn from.
        held_out: The photos to validate on.
        size: Side of the input, pixels.
        mean: RGB mean of the input, in (0, 1).
        std: RGB standard deviation of the input.
        batch_size: Photos a step and process.
        workers: Processes that read photos.
        seed: Of the order and of the augmentation.
    """

    def __init__(
        self,
        train: Sequence[Sample],
        held_out: Sequence[Sample],
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["train", "held_out", "workers"], logger=False)
        self.train, self.held_out = train, held_out
        self.augment, self.plain = transforms(size, mean, std)
        self.batch_size, self.workers, self.seed = min(batch_size, len(train)), workers, seed

    @property
    def fingerprint(self) -> str:
        """See :attr:`StageBatches.fingerprint`; of the photos of both parts."""
        return photos_fingerprint([*self.train, *self.held_out])

    def train_dataloader(self) -> DataLoader:
        """Return the batches of the trainer's current epoch: images [B, 3, H, W] and labels [B]."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        # a fixed order: a sampler would draw another one each time the trainer asks (twice where it resumes)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.train))
        return DataLoader(
            ClassPhotos([self.train[i] for i in order], self.augment, (self.seed, epoch)),
            self.batch_size,
            num_workers=self.workers,
            # a batch of one photo has no batch statistics
            drop_last=len(self.train) % self.batch_size == 1,
            generator=torch.Generator(),  # not the global one, from which the network draws
        )

    def val_dataloader(self) -> DataLoader:
        """Return the batches of the held-out photos, in order."""
        photos = ClassPhotos(self.held_out, self.plain, (self.seed,))
        return DataLoader(photos, self.batch_size, num_workers=self.workers)


def photos_fingerprint(samples: Sequence[Sample]) -> str:
    """Return 32 hexadecimal digits for the photos' paths, sizes in bytes and labels, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for path, label in samples:
        digest.update(f"{path}|{path.stat().st_size}|{label}\n".encode())
    return digest.hexdigest()
