"""Which photos a model is fitted on, and the fit itself."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from niphash.config import compose
from niphash.data.dataset import DataSet
from niphash.data.fit_photos import class_folder_pairs, fit_images, matching_pairs, random_subset
from niphash.data.images import ImageSet, UnreadableImage
from niphash.data.pictures.views import RandomView
from niphash.errors import InputError
from niphash.pipeline.assembly import build_data

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


def choose_fit_set(cfg: DictConfig, data: DataSet) -> FitSet:
    """Return ``fit.root`` or ``fit.pairs`` where given, else the data set's default fit set.

    Raises:
        InputError: the folder or the file of pairs cannot be used.
    """
    fit, seed = cfg.fit, int(cfg.seed)
    if fit.pairs == "folders":
        root = _needed_root(fit.root)
        images = fit_images(root, fit.limit, seed)
        return FitSet(images, f"the photos of {root}", class_folder_pairs(images))
    if fit.pairs is not None:
        images, pairs = matching_pairs(Path(fit.pairs), None if fit.root is None else Path(fit.root))
        return FitSet(images, f"the pairs of {fit.pairs}", pairs)
    if fit.root is not None:
        return FitSet(fit_images(Path(fit.root), fit.limit, seed), f"the photos of {fit.root}")
    images, source = _default_images(cfg, data)
    return FitSet(random_subset(images, fit.limit, seed), source)


def _needed_root(root: str | None) -> Path:
    if root is None:
        raise InputError("fit.pairs=folders needs fit.root=<folder with one sub-folder an object>")
    return Path(root)


def _default_images(cfg: DictConfig, data: DataSet) -> tuple[ImageSet, str]:
    if data.fit_partner is None:
        return data.fit_set(), f"the fit photos of {data.name}"
    node = compose([f"data={data.fit_partner}", f"paths.data_dir={cfg.paths.data_dir}"])
    partner = build_data(node.data)
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


def checksums(images: ImageSet) -> np.ndarray:
    """Return uint8 [N, 16]: what identifies the file of each photo (boxes and views put aside).

    Files that cannot be read are left out.
    """
    whole = ImageSet(images.ids, images.sources)
    rows = []
    for index in range(len(whole)):
        try:
            rows.append(np.frombuffer(bytes.fromhex(whole.checksum(index)), np.uint8))
        except UnreadableImage:
            continue
    return np.stack(rows) if rows else np.empty((0, 16), np.uint8)


def set_checksum(rows: np.ndarray) -> str:
    """Return one checksum for a set of photos, whatever their order."""
    return hashlib.blake2b(b"".join(sorted(row.tobytes() for row in rows)), digest_size=16).hexdigest()


def share_a_photo(fitted: np.ndarray, images: ImageSet) -> bool:
    """Tell whether one of ``images`` is among the photos with checksums ``fitted``, uint8 [N, 16]."""
    known = {row.tobytes() for row in fitted}
    return bool(known) and any(row.tobytes() in known for row in checksums(images))
