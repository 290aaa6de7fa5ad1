"""Small pictures of photos, for sheets and pages."""

from io import BytesIO
from pathlib import Path

from PIL import Image

from niphash.data.decode import read_photo

SIDE = 256


def thumbnail(path: Path, side: int = SIDE) -> Image.Image:
    """Return the photo as RGB, upright, its longer side at most ``side`` pixels.

    Raises:
        UnreadableImage: the file is missing or no photo.
    """
    picture = read_photo(path, str(path))
    picture.thumbnail((side, side))
    return picture


def as_jpeg(picture: Image.Image) -> bytes:
    """Return a picture as the bytes of a JPEG file without any metadata."""
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
