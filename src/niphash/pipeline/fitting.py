"""Which photos a model is fitted on, and the fit itself."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from niphash.data.checksums import SIZE, content_checksum
from niphash.data.dataset import DataSet
from niphash.data.fit_photos import class_folder_pairs, fit_images, matching_pairs, random_subset
from niphash.data.images import ImageSet, UnreadableImage
from niphash.data.pictures.views import RandomView
from niphash.descriptors.store.store import StoredDescriptors
from niphash.errors import InputError
from niphash.parallel import map_ahead
from niphash.pipeline.run import FitOptions
from niphash.training.fit_data import FitData

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitSet:
    """The photos that every learnable stage sees, without labels.

    Attributes:
        images: The photos.
        source: Where they come from, for the report.
        pairs: int64 [P, 2], rows of ``images`` known to match, or ``None``.
    """

    images: ImageSet
    source: str
    pairs: np.ndarray | None = None


def choose_fit_set(fit: FitOptions, data: DataSet, data_set: Callable[[str], DataSet], seed: int) -> FitSet:
    """Return ``fit.root`` or ``fit.pairs`` where given, else the data set's default fit set.

    Args:
        fit: What the run asks for.
        data: The data set whose default counts.
        data_set: Gives a data set by its name in ``conf/data``.
        seed: Determines a random subset.

    Raises:
        InputError: the folder or the file of pairs cannot be used.
    """
    if fit.pairs == "folders":
        root = _needed_root(fit.root)
        images = fit_images(root, fit.limit, seed)
        return FitSet(images, f"the photos of {root}", class_folder_pairs(images))
    if fit.pairs is not None:
        images, pairs = matching_pairs(Path(fit.pairs), None if fit.root is None else Path(fit.root))
        return FitSet(images, f"the pairs of {fit.pairs}", pairs)
    if fit.root is not None:
        return FitSet(fit_images(Path(fit.root), fit.limit, seed), f"the photos of {fit.root}")
    images, source = _default_images(data, data_set)
    return FitSet(random_subset(images, fit.limit, seed), source)


def _needed_root(root: str | None) -> Path:
    if root is None:
        raise InputError("fit.pairs=folders needs fit.root=<folder with one sub-folder an object>")
    return Path(root)


def _default_images(data: DataSet, data_set: Callable[[str], DataSet]) -> tuple[ImageSet, str]:
    if data.fit_partner is None:
        return data.fit_set(), f"the fit photos of {data.name}"
    partner = data_set(data.fit_partner)
    try:
        partner.prepare()
        return partner.fit_set(), f"the database of {partner.name}"
    except InputError as error:
        log.warning(
            "%s is fitted on %s by default, which is not here (%s); fitting on the database of %s itself: "
            "the numbers are transductive. Set fit.root=<folder of other photos> for a fair test.",
            *(data.name, data.fit_partner, error, data.name),
        )
        return data.task().database, f"the database of {data.name} itself"


def with_views(images: ImageSet, copies: int, seed: int) -> list[ImageSet]:
    """Return the photos followed by ``copies`` random views of each (one image set a copy)."""
    return [images] + [images.with_view(RandomView(seed=seed, copy=copy)) for copy in range(copies)]


def view_pairs(count: int, copies: int) -> np.ndarray:
    """Return int64 [count * copies, 2]: each photo's row beside the row of each of its views."""
    original = np.tile(np.arange(count), copies)
    return np.stack([original, np.arange(count, count * (copies + 1))], axis=1)


def held_out_rows(count: int, copies: int, share: float, seed: int) -> np.ndarray:
    """Return which fit photos and views no hashing stage learns from, bool [count * (1 + copies)].

    Args:
        count: Number of fit photos.
        copies: Views of each, see :func:`with_views`; a photo is held out with all of them.
        share: Of the photos, in [0, 1); at least one photo when it is above 0.
        seed: Determines the draw.
    """
    held_out = np.zeros(count, bool)
    if share:
        rng = np.random.default_rng([seed, count])
        held_out[rng.permutation(count)[: max(round(share * count), 1)]] = True
    return np.tile(held_out, 1 + copies)


def pairs_among(pairs: np.ndarray | None, kept: np.ndarray) -> np.ndarray | None:
    """Return the pairs int64 [P, 2] of which both rows are ``kept`` (bool [N]), as rows of what is kept."""
    if pairs is None:
        return None
    row = np.cumsum(kept) - 1
    return row[pairs[kept[pairs].all(axis=1)]]


@dataclass(frozen=True)
class FitRows:
    """Which described fit photos, and views of them, hashing learns from.

    Attributes:
        copies: Random views of each photo that are described after the photos.
        all_pairs: int64 [P, 2], matching rows of the photos and views, or ``None``.
        held_out: bool [N], rows that it does not learn from.
    """

    copies: int
    all_pairs: np.ndarray | None
    held_out: np.ndarray

    @property
    def count(self) -> int:
        """Number of rows that hashing learns from, where every photo can be read."""
        return int((~self.held_out).sum())

    @property
    def pairs(self) -> np.ndarray | None:
        """int64 [P, 2], the matching rows among those that hashing learns from."""
        return pairs_among(self.all_pairs, ~self.held_out)

    def of(self, described: StoredDescriptors) -> FitData:
        """Return what hashing learns from, of the descriptors [N, D] of all photos and views."""
        readable = described.positions >= 0
        fitted, unseen = readable & ~self.held_out, readable & self.held_out
        held_out = described.subset(unseen) if unseen.any() else None
        return FitData(described.subset(fitted), pairs_among(self.all_pairs, fitted), held_out)


def fit_rows(fit_set: FitSet, fit: FitOptions, needs_pairs: bool, seed: int) -> FitRows:
    """Return which rows hashing learns from: views are described where it needs pairs and none are given."""
    count = len(fit_set.images)
    copies = fit.views if needs_pairs and fit_set.pairs is None else 0
    pairs = view_pairs(count, copies) if copies else fit_set.pairs
    return FitRows(copies, pairs, held_out_rows(count, copies, fit.held_out, seed))


def checksums(images: ImageSet) -> np.ndarray:
    """Return uint8 [N, 16]: what identifies the file of each photo (boxes and views put aside).

    Files that cannot be read are left out.
    """

    def checksum(row: int) -> bytes | None:
        try:
            return content_checksum(images.sources[row], images.ids[row])
        except UnreadableImage:
            return None

    rows = [found for found in map_ahead(checksum, range(len(images))) if found is not None]
    return np.frombuffer(bytearray().join(rows), np.uint8).reshape(-1, SIZE)


def share_a_photo(fitted: np.ndarray, images: ImageSet) -> bool:
    """Tell whether one of ``images`` is among the photos with checksums ``fitted``, uint8 [N, 16]."""
    known = {row.tobytes() for row in fitted}
    return bool(known) and any(row.tobytes() in known for row in checksums(images))
