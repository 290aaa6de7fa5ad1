"""What the published data sets have in common: a folder, official archives, a citation."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from niphash.data.dataset import DataSet
from niphash.data.download import fetch, is_interrupted
from niphash.data.images import ImageSet
from niphash.data.layout import holds_images, image_folder
from niphash.data.remote_files import RemoteFile, remote_files
from niphash.data.task import RetrievalTask


class PublishedSet(DataSet):
    """A data set with official archives.

    Args:
        root: Folder of the data set; images in it or in a usual sub-folder (``jpg/``, ``images/``, ...).
        archives: Official archives of the images, see :func:`niphash.data.remote_files.remote_files`.
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
        """Fetch what is missing of images and ground truth, see :func:`niphash.data.download.fetch`."""
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
