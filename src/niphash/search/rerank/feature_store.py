"""Local features on disk, so that a candidate's are computed once: one small file a photo.

A file is safetensors of ``descriptors`` uint8 [T, 128], ``positions`` uint16 [T, 2] and ``size`` int64 [2],
named by the photo's checksum in the sub-folder of the extractor's fingerprint. It appears when it is whole;
any number of processes may write at once.
"""

import logging
import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from niphash.data.images import ImageSet
from niphash.descriptors.describer import fingerprint
from niphash.descriptors.local.sift import SIFT_DIM
from niphash.search.rerank.features import FeatureExtractor, Features

log = logging.getLogger(__name__)

#: Of the safetensors header, at most.
_HEADER_BYTES = 4096
_POINT_BYTES = SIFT_DIM + 4
_TYPES = {"descriptors": np.uint8, "positions": np.uint16, "size": np.int64}
#: A photo has no longer side, in pixels.
_LONGEST = 2**31


class FeatureStore:
    """Features of photos, looked up on disk and computed where they are missing.

    Files are not believed: one that is too long, damaged or no features is computed again, and said so.

    Args:
        extractor: What computes them.
        folder: Where they are kept, made when something is first written; ``None`` keeps nothing.
    """

    def __init__(self, extractor: FeatureExtractor, folder: Path | str | None) -> None:
        self.extractor = extractor
        name = fingerprint(extractor.config, {}, ("opencv-python-headless",))
        self.folder = None if folder is None else Path(folder) / name
        self._writable = True

    def features(self, images: ImageSet, row: int) -> Features:
        """Return the features of photo ``row``.

        Raises:
            UnreadableImage: the photo is needed and cannot be read.
        """
        if self.folder is None:
            return self.extractor.extract(images.image(row))
        key = images.checksum(row)
        path = self.folder / _name(key)
        kept = self._read(path)
        if kept is None:
            kept = self.extractor.extract(images.image(row))
            self._write(path, kept)
        return kept

    def _read(self, path: Path) -> Features | None:
        try:
            if path.stat().st_size > _HEADER_BYTES + self.extractor.points * _POINT_BYTES:
                raise ValueError("too long")
            return _checked(load(path.read_bytes()), self.extractor.points)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
            log.warning("%s: no features of a photo (%s), computed again", path, error)
            return None

    def _write(self, path: Path, features: Features) -> None:
        if not self._writable:
            return
        unfinished = path.with_name(f".{path.stem}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                unfinished.write_bytes(save(features._asdict()))
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            self._writable = False
            log.warning("%s: cannot be written (%s); local features are not kept", path, error.strerror)


def remove_features(folder: Path, keys: Iterable[str]) -> None:
    """Delete what is kept of photos, whatever extractor it came from.

    Args:
        folder: As of :class:`FeatureStore`; it need not exist.
        keys: Checksums of the photos, hexadecimal.

    Raises:
        OSError: a file cannot be deleted.
    """
    kept = [path for path in folder.iterdir() if not path.is_symlink()] if folder.is_dir() else []
    for key in keys if kept else ():
        for own in kept:
            (own / _name(key)).unlink(missing_ok=True)


def _name(key: str) -> str:
    return f"{key[:2]}/{key}.safetensors"


def _checked(tensors: dict[str, np.ndarray], points: int) -> Features:
    """Return the tensors of a file as features.

    Raises:
        ValueError: they are something else.
    """
    if {name: tensor.dtype for name, tensor in tensors.items()} != _TYPES:
        raise ValueError("other tensors")
    features = Features(**tensors)
    count = len(features.descriptors) if features.descriptors.ndim else -1
    shapes = (count, SIFT_DIM), (count, 2), (2,)
    if count > points or tuple(tensor.shape for tensor in features) != shapes:
        raise ValueError("other shapes")
    if not ((features.size > 0) & (features.size < _LONGEST)).all():
        raise ValueError("an impossible size")
    return features
