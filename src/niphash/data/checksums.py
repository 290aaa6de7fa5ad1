"""What identifies a photo's file: each is read once a run for it, whoever asks and however often."""

import hashlib
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from niphash.data.decode import UnreadableImage

SIZE = 16  # bytes of a checksum


class _State(NamedTuple):
    """What tells one content of a file from the next without reading it."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


_known: dict[Path, tuple[_State, bytes]] = {}
_lock = threading.Lock()


def content_checksum(source: Path | Image.Image, image_id: str) -> bytes:
    """Return 16 bytes (blake2b) over the bytes of a file, or over the pixels of a picture in memory.

    A file is read again only when it has changed since this process read it last.

    Args:
        source: The file or the picture.
        image_id: Its name, for messages.

    Raises:
        UnreadableImage: the file cannot be read.
    """
    if isinstance(source, Image.Image):
        return combined(f"{source.size}".encode(), source.tobytes())
    try:
        found = source.stat()
        state = _State(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = _known.get(source)
        if known is not None and known[0] == state:
            return known[1]
        checksum = _read_checksum(source)
    except OSError as error:
        raise UnreadableImage(image_id, f"cannot be read ({error.strerror})") from error
    with _lock:
        _known[source] = state, checksum
    return checksum


def combined(*parts: bytes) -> bytes:
    """Return 16 bytes over ``parts``, one after the other."""
    return hashlib.blake2b(b"".join(parts), digest_size=SIZE).digest()


def set_checksum(rows: np.ndarray) -> str:
    """Return one checksum in hexadecimal for a set of photos, uint8 [N, 16], whatever their order."""
    return combined(*sorted(row.tobytes() for row in rows)).hex()


def _read_checksum(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=SIZE)).digest()
