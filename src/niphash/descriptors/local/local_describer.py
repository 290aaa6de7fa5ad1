"""Photos to encoded local descriptors: SIFT, PCA, then Fisher, VLAD or bag of words."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import torch

from niphash.data.images import ImageSet, UnreadableImage
from niphash.descriptors.describer import ComposedDescriber, Described, Skipped, fingerprint, unreadable
from niphash.descriptors.local.encoders import Encoder, check_positive
from niphash.descriptors.local.sift import LocalBackbone
from niphash.descriptors.pca import PCA
from niphash.errors import InputError
from niphash.parallel import map_ahead
from niphash.progress import track

T = TypeVar("T")


class LocalDescriber(ComposedDescriber):
    """Local descriptors, brought to fewer dimensions by PCA, encoded into one vector a photo.

    Photos are read, their local descriptors found and encoded by one thread a core. A photo without local
    descriptors is described by :func:`niphash.descriptors.local.encoders.blank` and reported.

    Args:
        backbone: Finds the local descriptors.
        encoder: Encodes them.
        batch_size: Photos handed on at a time.
        fit_descriptors: Local descriptors drawn at random for fitting PCA and encoder, at most.
        fit_images: Photos drawn at random for it, at most.
        seed: Of both draws; their outcome does not depend on the timing of threads.
        device: Where the encoding is done; ``auto`` is a GPU when there is one.
    """

    def __init__(
        self,
        backbone: LocalBackbone,
        encoder: Encoder,
        batch_size: int = 32,
        fit_descriptors: int = 65_536,
        fit_images: int = 4096,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        check_positive("batch_size", batch_size)
        self.backbone, self.batch_size, self.seed = backbone, int(batch_size), int(seed)
        self.fit_descriptors, self.fit_images = int(fit_descriptors), int(fit_images)
        self.device = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        )
        self.pca = PCA(backbone.dim, encoder.local_dim, "pooling.local_dim").to(self.device)
        self.encoder = encoder.to(self.device)

    @property
    def dim(self) -> int:
        """Components of a descriptor."""
        return self.encoder.dim

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits over configuration, fitted tensors and the versions of what computes."""
        config = {"backbone": self.backbone.config, "encoder": self.encoder.config}
        return fingerprint(config, self.state_dict(), ("opencv-python-headless", "torch"))

    def fit(self, images: ImageSet) -> None:
        """Fit PCA and encoder to a bounded random sample of the photos' local descriptors.

        Raises:
            InputError: the photos give too few local descriptors.
        """
        sample, lengths = self.sample(images)
        self.pca.fit(sample)
        with torch.inference_mode():
            reduced = self.pca(torch.from_numpy(sample).to(self.device)).cpu().numpy()
        self.encoder.fit(reduced, lengths)

    def sample(self, images: ImageSet) -> tuple[np.ndarray, list[int]]:
        """Draw local descriptors at random, about equally many from every photo.

        Returns:
            float32 [S, local dim], S <= ``fit_descriptors``, photo after photo; how many are from each.

        Raises:
            InputError: no photo has any.
        """
        rows = np.random.default_rng(self.seed).permutation(len(images))[: self.fit_images]
        share = max(1, self.fit_descriptors // max(len(rows), 1))
        drawn, skipped = [], []
        found_in_each = self._each(images, rows, lambda descriptors: descriptors)
        for row, found in zip(rows, track(found_in_each, "fit set", len(rows)), strict=True):
            if isinstance(found, Skipped):
                skipped.append(found)
            elif len(found):
                own = np.random.default_rng([self.seed, int(row)])
                drawn.append(found[own.permutation(len(found))[:share]])
        if not drawn:
            why = unreadable(skipped, len(rows)) if skipped else f"none in {len(rows)} fit photos"
            raise InputError(f"no local descriptor to fit on: {why}; give other photos (fit.root)")
        return np.concatenate(drawn), [len(found) for found in drawn]

    def batches(self, images: ImageSet) -> Iterator[Described]:
        """Describe ``images`` batch by batch, in order, reading each photo once."""
        found = self._each(images, range(len(images)), self._encode)
        for start in range(0, len(images), self.batch_size):
            rows = range(start, min(start + self.batch_size, len(images)))
            yield self._batch(rows, [next(found) for _ in rows])

    @property
    def parts(self) -> dict[str, Any]:
        """What is fitted."""
        return {"pca": self.pca, "encoder": self.encoder}

    def _batch(self, rows: range, found: "list[Encoded | Skipped]") -> Described:
        kept = {row: photo for row, photo in zip(rows, found, strict=True) if not isinstance(photo, Skipped)}
        return Described(
            np.array(list(kept), np.int64),
            np.array([photo.descriptor for photo in kept.values()], np.float32).reshape(-1, self.dim),
            tuple(photo for photo in found if isinstance(photo, Skipped)),
            tuple(row for row, photo in kept.items() if photo.blank),
        )

    def _encode(self, descriptors: np.ndarray) -> "Encoded":
        with torch.inference_mode():
            reduced = self.pca(torch.from_numpy(descriptors).to(self.device))
            encoded = self.encoder(reduced, [len(descriptors)])[0].cpu().numpy()
        return Encoded(encoded, len(descriptors) == 0)

    def _each(
        self, images: ImageSet, rows: Iterable[int], work: Callable[[np.ndarray], T]
    ) -> Iterator[T | Skipped]:
        """Yield what ``work`` makes of the local descriptors float32 [T, local dim] of each row, in order."""

        def on_photo(row: int) -> T | Skipped:
            if torch.get_num_threads() > 1:  # of this thread; the others are busy with photos of their own
                torch.set_num_threads(1)
            try:
                return work(self.backbone.extract(images.image(row)).descriptors)
            except UnreadableImage as error:
                return Skipped(int(row), error.image_id, error.reason)

        with one_opencv_thread():
            try:
                yield from map_ahead(on_photo, rows, ahead=2 * self.batch_size)
            finally:
                torch.set_num_threads(torch.get_num_threads())  # what new threads start from, as it was


class Encoded(NamedTuple):
    """One photo.

    Attributes:
        descriptor: float32 [D].
        blank: Whether it had no local descriptor at all.
    """

    descriptor: np.ndarray
    blank: bool


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV from threading inside an image while there is one thread an image already."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
