"""Which photos a model was fitted on, by content, so that a later test set can be checked against them."""

import hashlib

import numpy as np

from niphash.data.images import ImageSet, UnreadableImage


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
