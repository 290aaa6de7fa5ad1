"""What a photo is known by in the store: the checksum of its content."""

import numpy as np

from niphash.data.images import ImageSet, UnreadableImage
from niphash.descriptors.describer import Skipped
from niphash.descriptors.parallel import map_ahead
from niphash.progress import track


def checksums(images: ImageSet) -> tuple[np.ndarray, dict[int, Skipped]]:
    """Return uint8 [N, 16], the checksums of N photos (zeros for missing files), and the missing by row."""

    def checksum(row: int) -> bytes | Skipped:
        try:
            return bytes.fromhex(images.checksum(row))
        except UnreadableImage as error:
            return Skipped(row, error.image_id, error.reason)

    keys, skipped = np.zeros((len(images), 16), np.uint8), {}
    for row, found in enumerate(track(map_ahead(checksum, range(len(images))), "look up", len(images))):
        if isinstance(found, Skipped):
            skipped[row] = found
        else:
            keys[row] = np.frombuffer(found, np.uint8)
    return keys, skipped


def as_bytes(keys: np.ndarray) -> np.ndarray:
    """Return uint8 [n, 16] checksums as bytes [n] that compare and sort."""
    return np.ascontiguousarray(keys).view("S16").reshape(-1)
