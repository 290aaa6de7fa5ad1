"""What the published data sets have in common: a folder, official archives, a citation."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from niphash.data.dataset import DataSet
from niphash.data.download.fetch import fetch, is_interrupted
from niphash.data.download.remote_files import RemoteFile, remote_files
from niphash.data.images import IMAGE_SUFFIXES, ImageSet, image_files, walk_files
from niphash.data.task import RetrievalTask
from niphash.errors import InputError

#: Sub-folders in which people keep the images of the published data sets.
USUAL_SUBFOLDERS = ("jpg", "images", "full", "oxbuild_images", "paris", "ukbench/full", "ukbench", "holidays")


def image_folder(root: Path, subfolders: Iterable[str] = USUAL_SUBFOLDERS) -> Path:
    """Return the folder that holds the images: ``root``, or the first of ``subfolders`` with images in it."""
    if any(path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() for path in _children(root)):
        return root
    for name in subfolders:
        if holds_images(root / name):
            return root / name
    return root


def holds_images(folder: Path) -> bool:
    """Return whether there is any image file below ``folder``."""
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in walk_files(folder))


def find_images(root: Path, expected: str) -> list[Path]:
    """Return the image files of a data set.

    Args:
        root: The folder the user named.
        expected: What should be there, in words, for the error.

    Raises:
        InputError: ``root`` does not exist, is no folder, holds no image, or only one.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected there: {expected}")
    paths = image_files(image_folder(root))
    if len(paths) < 2:
        found = "no image" if not paths else f"only one image ({paths[0].name})"
        raise InputError(f"{root}: {found} in this folder; expected there: {expected}")
    return paths


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Return ``{name without suffix: path}``; of two files with one name the first stays."""
    found: dict[str, Path] = {}
    for path in paths:
        found.setdefault(path.stem, path)
    return found


def _children(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


class PublishedSet(DataSet):
    """A data set with official archives.

    Args:
        root: Folder of the data set; images in it or in a usual sub-folder (``jpg/``, ``images/``, ...).
        archives: Official archives of the images, see :mod:`niphash.data.download.remote_files`.
        ground_truth: Official files of the ground truth, likewise.
        fit_partner: Name of the data set to fit on by default.
        about: ``images``, ``licence``, ``citation``: what ``niphash data list`` shows.
    """

    #: What the folder should hold, in words.
    expected: str

    def __init__(
        self,
        root: str | Path,
        archives: Iterable[Mapping[str, Any]] | None = None,
        ground_truth: Iterable[Mapping[str, Any]] | None = None,
        fit_partner: str | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.root = Path(root)
        self.archives = remote_files(archives)
        self.ground_truth = remote_files(ground_truth)
        self.fit_partner = fit_partner
        self.about = dict(about or {})

    def has_images(self) -> bool:
        """Return whether images are there; a folder that holds some is never filled from the network."""
        return holds_images(image_folder(self.root))

    def has_ground_truth(self) -> bool:
        """Return whether the ground truth is there."""
        return True

    def prepare(self) -> None:
        """Fetch what is missing of images and ground truth, see :func:`niphash.data.download.fetch.fetch`."""
        wanted: list[RemoteFile] = []
        if not self.has_images() or is_interrupted(self.root):
            wanted += self.archives
        if not self.has_ground_truth() or is_interrupted(self.root):
            wanted += self.ground_truth
        if wanted:
            fetch(wanted, self.root, present=lambda: self.has_images() and self.has_ground_truth())

    @abstractmethod
    def photos(self) -> ImageSet:
        """Return the images on disk that belong to the data set, without looking at any ground truth."""

    @abstractmethod
    def named(self) -> frozenset[str]:
        """Return the ids that the official list or the ground truth names."""

    def fit_set(self) -> ImageSet:
        """Return the data set's own images: the default fit set of its partner, or its own (transductive)."""
        return self.photos()


class ListedSet(PublishedSet):
    """A published set whose images are all named somewhere: to judge a ranking the names suffice."""

    @abstractmethod
    def task(self, photos: ImageSet | None = None) -> RetrievalTask:
        """Return the task over ``photos``, by default those on disk."""

    def ranking_task(self) -> RetrievalTask:
        """Return the task over every image that is named, whether or not its photo is here."""
        names = sorted(self.named())
        return self.task(ImageSet(tuple(names), tuple(self.root / f"{name}.jpg" for name in names)))
