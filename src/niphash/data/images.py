"""Image sets: which photos there are, and how one is read."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageOps

from niphash.data.decode import UnreadableImage, read_photo, to_rgb
from niphash.errors import InputError

__all__ = [
    "IMAGE_SUFFIXES",
    "Box",
    "ImageSet",
    "UnreadableImage",
    "View",
    "as_image_set",
    "checksums",
    "crop",
    "image_files",
    "read_image",
    "walk_files",
]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
)


class Box(NamedTuple):
    """A region of interest in pixels of the upright image, right and bottom edges exclusive."""

    left: float
    top: float
    right: float
    bottom: float


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
    """

    ids: tuple[str, ...]
    sources: tuple[Path | Image.Image, ...]
    boxes: tuple[Box | None, ...] | None = None
    view: View | None = None
    numbers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.sources):
            raise ValueError(f"{len(self.ids)} ids for {len(self.sources)} images")
        if self.boxes is not None and len(self.boxes) != len(self.ids):
            raise ValueError(f"{len(self.boxes)} boxes for {len(self.ids)} images")

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int, max_side: int | None = None) -> Image.Image:
        """Return image ``index`` as RGB, upright (EXIF orientation applied), cropped to its box.

        Args:
            index: Which image.
            max_side: The caller will shrink the picture to this longer side in pixels, so a large JPEG may be
                decoded at a fraction of its size (never smaller than asked). Without effect on an image with
                a box or a view, which are in pixels of the full picture.

        Raises:
            UnreadableImage: the file is missing, broken, or not an image.
        """
        box = self.boxes[index] if self.boxes is not None else None
        whole = box is None and self.view is None
        image = read_image(self.sources[index], self.ids[index], max_side if whole else None)
        if box is not None:
            image = crop(image, box, self.ids[index])
        return image if self.view is None else self.view(image, self._number(index))

    def checksum(self, index: int) -> str:
        """Return 32 hexadecimal digits that stand for the pixels of image ``index``.

        The file's bytes, the box and the view go in, so two images with one checksum have one descriptor.

        Raises:
            UnreadableImage: the file cannot be read.
        """
        digest = hashlib.blake2b(_content(self.sources[index], self.ids[index]), digest_size=16)
        box = self.boxes[index] if self.boxes is not None else None
        if box is not None:
            digest.update(repr(tuple(box)).encode())
        if self.view is not None:
            digest.update(f"{self.view.key}|{self._number(index)}".encode())
        return digest.hexdigest()

    def subset(self, indices: Iterable[int]) -> "ImageSet":
        """Return the images at ``indices``, in that order, each seen through the view as before."""
        chosen = list(indices)
        return ImageSet(
            ids=tuple(self.ids[i] for i in chosen),
            sources=tuple(self.sources[i] for i in chosen),
            boxes=None if self.boxes is None else tuple(self.boxes[i] for i in chosen),
            view=self.view,
            numbers=tuple(self._number(i) for i in chosen),
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
        return ImageSet(self.ids + other.ids, self.sources + other.sources, boxes)

    @classmethod
    def from_folder(cls, root: Path | str) -> "ImageSet":
        """Return all images under ``root`` (sub-folders too, hidden files not), ordered by relative path.

        Raises:
            InputError: ``root`` does not exist, is no folder, or holds no image file.
        """
        root = Path(root)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; name a folder that holds photos")
        paths = image_files(root)
        if not paths:
            raise InputError(
                f"{root}: no image in this folder; looked for {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        skip = len(os.fspath(paths[0])) - len(os.fspath(paths[0].relative_to(root)))
        return cls(tuple(path.as_posix()[skip:] for path in paths), tuple(paths))


def walk_files(root: Path) -> Iterator[Path]:
    """Yield the regular files below ``root`` that are not hidden; links to folders are not followed.

    Raises:
        InputError: a folder cannot be read.
    """
    pending = [os.fspath(root)] if root.is_dir() else []
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=_name)
        except OSError as error:
            raise InputError(f"{folder}: this folder cannot be read ({error.strerror})") from error
        yield from (Path(entry.path) for entry in visible if entry.is_file())
        pending += [entry.path for entry in reversed(visible) if entry.is_dir(follow_symlinks=False)]


def image_files(root: Path) -> list[Path]:
    """Return the image files below ``root``, ordered by path; none where it does not exist."""
    return sorted((path for path in walk_files(root) if path.suffix.lower() in IMAGE_SUFFIXES), key=os.fspath)


def _name(entry: os.DirEntry) -> str:
    return entry.name


def as_image_set(images: "ImageSet | str | Path | Image.Image | np.ndarray | Sequence") -> ImageSet:
    """Turn what a caller has at hand into an :class:`ImageSet`.

    Accepts an image set, a folder, a file, a PIL image, a uint8 array [H, W, 3] (RGB) or [H, W], or a
    sequence of files, PIL images and arrays.
    """
    if isinstance(images, ImageSet):
        return images
    if isinstance(images, str | Path) and Path(images).is_dir():
        return ImageSet.from_folder(images)
    if isinstance(images, str | Path | Image.Image | np.ndarray):
        images = [images]
    sources = tuple(_as_source(image) for image in images)
    ids = tuple(str(s) if isinstance(s, Path) else f"image {i}" for i, s in enumerate(sources))
    return ImageSet(ids, sources)


def _as_source(image: str | Path | Image.Image | np.ndarray) -> Path | Image.Image:
    if isinstance(image, str | Path):
        return Path(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise InputError(
                f"an array of {image.dtype} {list(image.shape)} is no picture; needed: uint8 [H, W, 3]"
            )
        return Image.fromarray(image).convert("RGB")
    return to_rgb(ImageOps.exif_transpose(image))


def checksums(images: ImageSet) -> np.ndarray:
    """Return uint8 [N, 16]: what identifies each photo's file; unreadable files are left out."""
    rows = []
    for index in range(len(images)):
        try:
            rows.append(np.frombuffer(bytes.fromhex(images.checksum(index)), np.uint8))
        except UnreadableImage:
            continue
    return np.stack(rows) if rows else np.empty((0, 16), np.uint8)


def read_image(source: Path | Image.Image, image_id: str, max_side: int | None = None) -> Image.Image:
    """Return ``source`` as an upright RGB image, see :func:`niphash.data.decode.read_photo`.

    Raises:
        UnreadableImage: with the reason in words.
    """
    return source if isinstance(source, Image.Image) else read_photo(source, image_id, max_side)


def crop(image: Image.Image, box: Box, image_id: str) -> Image.Image:
    """Return the part of ``image`` inside ``box``, whose edges are rounded to pixels and clipped.

    Raises:
        UnreadableImage: the box misses the image.
    """
    left, top = max(0, round(box.left)), max(0, round(box.top))
    right, bottom = min(image.width, round(box.right)), min(image.height, round(box.bottom))
    if right <= left or bottom <= top:
        raise UnreadableImage(
            image_id, f"its box {tuple(box)} lies outside the {image.width} x {image.height} image"
        )
    return image.crop((left, top, right, bottom))


def _content(source: Path | Image.Image, image_id: str) -> bytes:
    if isinstance(source, Image.Image):
        return f"{source.size}".encode() + source.tobytes()
    try:
        return source.read_bytes()
    except OSError as error:
        raise UnreadableImage(image_id, f"cannot be read ({error.strerror})") from error
