"""What the published data sets have in common: a folder, official archives, a citation."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from niphash.data.dataset import DataSet
from niphash.data.download.fetch import fetch, is_interrupted
from niphash.data.download.remote_files import RemoteFile, remote_files
from niphash.data.images import ImageSet
from niphash.data.names import portable_name, respelled
from niphash.data.survey import is_photo_file, look_through, user_path, walk_files
from niphash.data.task import RetrievalTask
from niphash.errors import InputError

#: Sub-folders in which people keep the images of the published data sets.
USUAL_SUBFOLDERS = ("jpg", "images", "full", "oxbuild_images", "paris", "ukbench/full", "ukbench", "holidays")


def image_folder(root: Path, subfolders: Iterable[str] = USUAL_SUBFOLDERS) -> Path:
    """Return the folder that holds the images: ``root``, or the first of ``subfolders`` with images in it."""
    if root.is_dir() and any(is_photo_file(path) for path in root.iterdir() if not path.name.startswith(".")):
        return root
    for name in subfolders:
        if holds_images(root / name):
            return root / name
    return root


def holds_images(folder: Path) -> bool:
    """Return whether there is any photo below ``folder``."""
    return any(is_photo_file(path) for path in walk_files(folder))


def photos_by_stem(
    root: Path, expected: str, belongs: Callable[[str], bool] = bool, otherwise: str = "of other names"
) -> ImageSet:
    """Return the photos of a data set, named by stem, in order of name.

    Of several files of one name the one in the official layout counts, then the one in the fewest folders,
    then the ``.jpg``, then the largest; the survey names the others.

    Args:
        root: The folder the user named.
        expected: What should be there, in words, for the error.
        belongs: Tells by the stem whether a photo is one of the data set's.
        otherwise: What the others are, for the survey.

    Raises:
        InputError: ``root`` does not exist, is no folder, holds no photo of the data set, or only one photo.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected there: {expected}")
    folder = image_folder(root)
    paths, survey = look_through(folder)
    if len(paths) < 2:
        found = f"no image in this folder{survey.aside()}"
        if paths:
            found = f"only one image ({portable_name(paths[0].name)}) in this folder"
        raise InputError(f"{root}: {found}; expected there: {expected}")
    groups: dict[str, list[Path]] = {}
    for path in paths:
        if belongs(path.stem):
            groups.setdefault(path.stem, []).append(path)
    strangers = len(paths) - sum(map(len, groups.values()))
    survey = survey.leaving_out(otherwise, strangers)
    chosen = {stem: min(files, key=partial(_rank, folder)) for stem, files in sorted(groups.items())}
    for kind, count in _passed_over(groups, chosen, folder).items():
        survey = survey.leaving_out(kind, count)
    return ImageSet(tuple(chosen), tuple(chosen.values()), survey=survey)


def _rank(folder: Path, path: Path) -> tuple[bool, int, bool, int, str]:
    """Return what orders files of one name, the one that counts first."""
    below = path.relative_to(folder).parent
    official = below == Path() or below.as_posix().lower() in USUAL_SUBFOLDERS
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    return not official, len(below.parts), path.suffix.lower() != ".jpg", -size, str(path)


def _passed_over(groups: Mapping[str, list[Path]], chosen: Mapping[str, Path], folder: Path) -> Counter[str]:
    """Count the files whose name another file has, by the folder they are in, with an example of each."""
    kinds: dict[str, tuple[str, int]] = {}
    for stem, files in groups.items():
        for path in files:
            if path != chosen[stem]:
                example, used = (
                    portable_name(p.relative_to(folder).as_posix()) for p in (path, chosen[stem])
                )
                place = f"{path.relative_to(folder).parent.as_posix()}{path.suffix}"
                first, count = kinds.get(place, (f"{example}: {used} is used", 0))
                kinds[place] = (first, count + 1)
    return Counter({f"whose names other files have ({example})": count for example, count in kinds.values()})


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
        self.root = user_path(root)
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

    def spelled(self, photos: ImageSet, official: Iterable[str]) -> ImageSet:
        """Return ``photos`` with their official names where only case or Unicode form differ."""
        return replace(photos, ids=respelled(photos.ids, official))

    def ranking_task(self) -> RetrievalTask:
        """Return the task over every image that is named, whether or not its photo is here."""
        names = sorted(self.named())
        return self.task(ImageSet(tuple(names), tuple(self.root / f"{name}.jpg" for name in names)))
