"""Pairs of views to train a backbone on, made of photos that are kept small in memory."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from niphash.data.images import ImageSet, UnreadableImage
from niphash.data.pictures import rendering
from niphash.data.pictures.strong_views import SMALLEST_SIDE, StrongView, slight_crop
from niphash.descriptors.describer import Skipped
from niphash.descriptors.network.input import lay_out
from niphash.parallel import map_ahead
from niphash.progress import track
from niphash.training.streams import StageBatches

#: JPEG quality of the photos kept in memory.
KEPT_QUALITY = 95
#: Share of width and of height that is always left of the first view of a pair.
LEAST_KEPT = 0.8
HELD_OUT_BATCH = 8

#: Two views of a photo and its number.
Pair = tuple[Tensor, Tensor, int]
#: The same of a batch: views uint8 [B, 3, S, S] and numbers int64 [B].
PairBatch = tuple[Tensor, Tensor, Tensor]


class SmallPhotos:
    """Photos of bounded size in memory, each as a JPEG file: some 30 kB where pixels would take 150 kB."""

    def __init__(self, files: Sequence[bytes]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> np.ndarray:
        """Return a photo as uint8 RGB [H, W, 3]."""
        return np.asarray(rendering.decode(self.files[number]))

    def subset(self, numbers: Sequence[int] | np.ndarray) -> "SmallPhotos":
        """Return the photos at ``numbers``, in that order."""
        return SmallPhotos([self.files[i] for i in numbers])

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits for the photos, in order."""
        digest = hashlib.blake2b(digest_size=16)
        for file in self.files:
            digest.update(len(file).to_bytes(8, "little") + file)
        return digest.hexdigest()


def read_small(images: ImageSet, longer: int) -> tuple[SmallPhotos, list[Skipped]]:
    """Read photos, shrunk (anti-aliased) until their longer side is at most ``longer`` pixels.

    Returns:
        Those that can be used, and the others with the reason: unreadable, or too small for a crop.
    """

    def small(row: int) -> bytes | Skipped:
        try:
            photo = images.image(row)
        except UnreadableImage as error:
            return Skipped(row, error.image_id, error.reason)
        if min(photo.size) < SMALLEST_SIDE:
            size = f"{photo.width} x {photo.height} pixels"
            return Skipped(
                row, images.ids[row], f"is too small to crop ({size}, {SMALLEST_SIDE} a side are needed)"
            )
        photo.thumbnail((longer, longer), Image.Resampling.LANCZOS)
        return rendering.jpeg(np.asarray(photo), KEPT_QUALITY)

    kept: list[bytes] = []
    skipped: list[Skipped] = []
    for result in track(map_ahead(small, range(len(images))), "read photos", len(images)):
        if isinstance(result, Skipped):
            skipped.append(result)
        else:
            kept.append(result)
    return SmallPhotos(kept), skipped


def laid_out(photo: np.ndarray, side: int, mode: str) -> np.ndarray:
    """Return a photo as a backbone of input ``mode`` sees it, uint8 [side, side, 3].

    Views of one batch share a shape, so a photo whose shape the backbone would keep (``aspect``) is padded.
    """
    return lay_out(Image.fromarray(photo), side, "pad" if mode == "aspect" else mode)


class ViewPairs(Dataset[Pair]):
    """Two views each of some photos: one nearly as the photo lies in a database, and a strong one.

    Args:
        photos: All photos to learn from.
        numbers: Those of which views are made, in order; one may come again.
        views: Makes the strong view.
        side: Of the views, pixels.
        mode: How the backbone lays a photo on its input.
        seeds: What is drawn depends on these and on the place in ``numbers`` alone.
    """

    def __init__(
        self,
        photos: SmallPhotos,
        numbers: np.ndarray,
        views: StrongView,
        side: int,
        mode: str,
        seeds: Sequence[int],
    ) -> None:
        self.photos, self.numbers, self.views = photos, numbers, views
        self.side, self.mode, self.seeds = side, mode, tuple(seeds)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> Pair:
        """Return two views, uint8 [3, side, side], and the number of the photo."""
        rng = np.random.default_rng([*self.seeds, place])
        number = int(self.numbers[place])
        photo, other = self.photos[number], self.photos[another(number, len(self.photos), rng)]
        first = laid_out(slight_crop(photo, LEAST_KEPT, rng), self.side, self.mode)
        return as_tensor(first), as_tensor(self.views(photo, other, self.side, rng)), number


def another(number: int, count: int, rng: np.random.Generator) -> int:
    """Return a number below ``count``, at least 2, that is not ``number``."""
    drawn = int(rng.integers(count - 1))
    return drawn + (drawn >= number)


def as_tensor(picture: np.ndarray) -> Tensor:
    """Return uint8 [3, H, W] of uint8 [H, W, 3]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


class HeldOutPairs(IterableDataset):
    """Held-out photos as they lie in a database, and one strong view of each; every process gets all.

    Yields batches: uint8 [B, 3, H, W], and views uint8 [B, 3, side, side], in the order of the photos.
    """

    def __init__(self, photos: SmallPhotos, views: StrongView, side: int, mode: str, seed: int) -> None:
        self.photos, self.views, self.side, self.mode, self.seed = photos, views, side, mode, seed
        self.batch = 1 if mode == "aspect" else HELD_OUT_BATCH  # photos of any shape share no batch

    def __len__(self) -> int:
        return -(-len(self.photos) // self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        numbers = range(len(self.photos))
        for start in numbers[:: self.batch]:
            pairs = [self._pair(number) for number in numbers[start : start + self.batch]]
            yield torch.stack([plain for plain, _ in pairs]), torch.stack([view for _, view in pairs])

    def _pair(self, number: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, number])
        photo, other = self.photos[number], self.photos[another(number, len(self.photos), rng)]
        plain = lay_out(Image.fromarray(photo), self.side, self.mode)
        return as_tensor(plain), as_tensor(self.views(photo, other, self.side, rng))


class ViewBatches(StageBatches):
    """The batches of views that a backbone learns from; a function of seed, epoch and place alone.

    Args:
        photos: To learn from; each comes once before any comes again.
        held_out: To measure on after every epoch.
        views: Makes strong views.
        sides: Side of the views in each epoch, pixels; held-out photos are seen at the last.
        mode: How the backbone lays a photo on its input.
        steps: Batches an epoch.
        batch_size: Photos a step and process.
        workers: Processes that make views.
        seed: Of the order and of the views.
    """

    def __init__(
        self,
        photos: SmallPhotos,
        held_out: SmallPhotos,
        views: StrongView,
        sides: Sequence[int],
        mode: str,
        steps: int,
        batch_size: int,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        plain = {"sides": list(sides), "mode": mode, "steps": steps, "batch_size": batch_size, "seed": seed}
        self.save_hyperparameters({**plain, "views": views.values}, logger=False)
        self.photos, self.held_out, self.views, self.sides = photos, held_out, views, list(sides)
        self.mode, self.steps, self.batch_size = mode, steps, batch_size
        self.workers, self.seed = workers, seed

    @property
    def fingerprint(self) -> str:
        """See :attr:`StageBatches.fingerprint`; of the photos of both parts."""
        return self.photos.fingerprint + self.held_out.fingerprint

    def train_dataloader(self) -> DataLoader:
        """Return the batches of the trainer's current epoch: two views [B, 3, S, S], photos' numbers [B]."""
        epoch, processes = (
            (0, 1) if self.trainer is None else (self.trainer.current_epoch, self.trainer.world_size)
        )
        length = self.steps * self.batch_size * processes
        numbers = drawn(len(self.photos), epoch * length, length, self.seed)
        side = self.sides[min(epoch, len(self.sides) - 1)]
        pairs = ViewPairs(self.photos, numbers, self.views, side, self.mode, (self.seed, epoch))
        return DataLoader(
            pairs, self.batch_size, num_workers=self.workers, generator=torch.Generator(), drop_last=True
        )

    def val_dataloader(self) -> DataLoader:
        """Return the batches of the held-out photos, see :class:`HeldOutPairs`."""
        pairs = HeldOutPairs(self.held_out, self.views, self.sides[-1], self.mode, self.seed)
        return DataLoader(pairs, batch_size=None)


def drawn(count: int, start: int, length: int, seed: int) -> np.ndarray:
    """Return a part of an endless sequence of the numbers 0 ... count - 1, int64 [length].

    It consists of random permutations, one after the other, which ``seed`` decides.

    Args:
        count: How many numbers there are.
        start: First place of the part.
        length: Of the part.
        seed: See above.
    """
    rounds = range(start // count, -(-(start + length) // count))
    orders = [np.random.default_rng([seed, turn]).permutation(count) for turn in rounds]
    first = start - rounds.start * count
    return np.concatenate(orders)[first : first + length]
