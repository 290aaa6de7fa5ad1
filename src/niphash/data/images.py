"""Image sets: which photos there are, and how one is read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from niphash.data.checksums import combined, content_checksum
from niphash.data.decode import Box, UnreadableImage, pixel_box, read_photo, upright_rgb
from niphash.data.survey import Survey, look_through, user_path
from niphash.errors import InputError

__all__ = [
    "Box",
    "ImageSet",
    "UnreadableImage",
    "View",
    "as_image_set",
    "crop",
    "read_image",
]


class View(Protocol):
    """A change of the picture before it is described (a rotation, a random crop, ...)."""

    @property
    def key(self) -> str:
        """Text that determines the change; part of the image's checksum."""
        ...

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """Return the changed picture of image number ``index`` of the set."""
        ...


@dataclass(frozen=True)
class ImageSet:
    """An ordered set of photos.

    Attributes:
        ids: One name an image, unique in the set (the stem or the relative path of its file).
        sources: One an image: the path of its file, or the picture itself (RGB PIL image).
        boxes: Optional, one an image: the region that is the image (Oxford queries), or ``None``.
        view: Optional change applied to every image after the crop.
        numbers: Optional, one an image: the number by which the view knows it; its index when not given
            (a subset keeps the numbers of the whole).
        survey: Of the folder they come from: what was taken there and what was left out.
    """

    ids: tuple[str, ...]
    sources: tuple[Path | Image.Image, ...]
    boxes: tuple[Box | None, ...] | None = None
    view: View | None = None
    numbers: tuple[int, ...] | None = None
    survey: Survey | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.sources):
            raise ValueError(f"{len(self.ids)} ids for {len(self.sources)} images")
        if self.boxes is not None and len(self.boxes) != len(self.ids):
            raise ValueError(f"{len(self.boxes)} boxes for {len(self.ids)} images")

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Image.Image:
        """Return image ``index`` as RGB, upright (EXIF orientation applied), cropped to its box.

        What is larger than :data:`niphash.data.decode.FULL_PIXELS` comes averaged down to that.

        Raises:
            UnreadableImage: the file is missing, broken, or not an image.
        """
        box = self.boxes[index] if self.boxes is not None else None
        image = read_image(self.sources[index], self.ids[index], box)
        return image if self.view is None else self.view(image, self._number(index))

    def notes(self) -> tuple[str, ...]:
        """Return a sentence on the pictures that were left out where these come from, none without any."""
        return self.survey.notes() if self.survey is not None else ()

    def checksum(self, index: int) -> str:
        """Return 32 hexadecimal digits that stand for the pixels of image ``index``.

        The file's bytes, the box and the view go in, so two images with one checksum have one descriptor.

        Raises:
            UnreadableImage: the file cannot be read.
        """
        content = content_checksum(self.sources[index], self.ids[index])
        box = self.boxes[index] if self.boxes is not None else None
        seen = b"" if box is None else repr(tuple(box)).encode()
        if self.view is not None:
            seen += f"{self.view.key}|{self._number(index)}".encode()
        return (combined(content, seen) if seen else content).hex()

    def subset(self, indices: Iterable[int]) -> "ImageSet":
        """Return the images at ``indices``, in that order, each seen through the view as before."""
        chosen = list(indices)
        return ImageSet(
            ids=tuple(self.ids[i] for i in chosen),
            sources=tuple(self.sources[i] for i in chosen),
            boxes=None if self.boxes is None else tuple(self.boxes[i] for i in chosen),
            view=self.view,
            numbers=tuple(self._number(i) for i in chosen),
            survey=self.survey,
        )

    def _number(self, index: int) -> int:
        return index if self.numbers is None else self.numbers[index]

    def with_view(self, view: View | None) -> "ImageSet":
        """Return the same images seen through ``view``."""
        return replace(self, view=view)

    def __add__(self, other: "ImageSet") -> "ImageSet":
        if self.view is not None or other.view is not None:
            raise ValueError("join image sets before a view is attached")
        boxes = None
        if self.boxes is not None or other.boxes is not None:
            boxes = (self.boxes or (None,) * len(self)) + (other.boxes or (None,) * len(other))
        return ImageSet(self.ids + other.ids, self.sources + other.sources, boxes, survey=self.survey)

    @classmethod
    def from_folder(cls, root: Path | str, known: Iterable[str] = ()) -> "ImageSet":
        """Return all photos under ``root``, ordered by relative path, with the :attr:`survey` of the folder.

        What counts as a photo is said by :func:`niphash.data.survey.look_through`: sub-folders and links are
        followed, hidden files and those of systems are not taken.

        Args:
            root: The folder.
            known: Names of files in it that are no photos and need not be counted.

        Raises:
            InputError: ``root`` does not exist, is no folder, or holds no photo.
        """
        root = user_path(root)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; name a folder that holds photos")
        paths, survey = look_through(root, known)
        if not paths:
            raise InputError(f"{root}: no image in this folder{survey.aside()}")
        return cls(tuple(path.relative_to(root).as_posix() for path in paths), tuple(paths), survey=survey)


def as_image_set(images: "ImageSet | str | Path | Image.Image | np.ndarray | Sequence") -> ImageSet:
    """Turn what a caller has at hand into an :class:`ImageSet`.

    Accepts an image set, a folder, a file, a PIL image, a uint8 array [H, W, 3] (RGB) or [H, W], or a
    sequence of files, PIL images and arrays.

    Raises:
        InputError: it is something else, or an array that is no picture.
        UnreadableImage: a PIL image cannot be decoded.
    """
    if isinstance(images, ImageSet):
        return images
    if isinstance(images, str | Path) and Path(images).is_dir():
        return ImageSet.from_folder(images)
    if isinstance(images, str | Path | Image.Image | np.ndarray):
        images = [images]
    if isinstance(images, bytes | bytearray) or not isinstance(images, Sequence | Iterator):
        raise _no_picture(images)
    sources = tuple(_as_source(image, f"image {i}") for i, image in enumerate(images))
    ids = tuple(str(s) if isinstance(s, Path) else f"image {i}" for i, s in enumerate(sources))
    return ImageSet(ids, sources)


def _as_source(image: str | Path | Image.Image | np.ndarray, image_id: str) -> Path | Image.Image:
    if isinstance(image, str | Path):
        return Path(image)
    if isinstance(image, Image.Image):
        return upright_rgb(image, image_id)
    if not isinstance(image, np.ndarray):
        raise _no_picture(image)
    colours = image.ndim == 3 and image.shape[2] == 3
    if image.dtype != np.uint8 or not image.size or not (image.ndim == 2 or colours):
        raise InputError(
            f"an array of {image.dtype} {list(image.shape)} is no picture; needed: uint8 [H, W, 3], not empty"
        )
    return upright_rgb(Image.fromarray(image), image_id)


def _no_picture(value: object) -> InputError:
    return InputError(
        f"a {type(value).__name__} is no picture; give a folder, a file, a PIL image, a uint8 array "
        "[H, W, 3], or a list of files, PIL images and arrays"
    )


def read_image(source: Path | Image.Image, image_id: str, box: Box | None = None) -> Image.Image:
    """Return ``source`` as an upright RGB image, see :func:`niphash.data.decode.read_photo`.

    Raises:
        UnreadableImage: with the reason in words.
    """
    if isinstance(source, Image.Image):
        return source if box is None else crop(source, box, image_id)
    return read_photo(source, image_id, box)


def crop(image: Image.Image, box: Box, image_id: str) -> Image.Image:
    """Return the part of ``image`` inside ``box``, whose edges are rounded to pixels and clipped.

    Raises:
        UnreadableImage: the box misses the image.
    """
    return image.crop(pixel_box(box, image.size, image_id))
