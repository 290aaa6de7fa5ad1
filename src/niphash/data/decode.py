"""One photo on disk to an upright RGB picture, whatever its format; the file is not believed.

What each kind of file becomes:

* EXIF orientation is applied; colour profiles are not.
* CMYK, YCbCr, palette, black and white, grey: converted to RGB.
* 16 bits a channel: divided by 257, so that 65535 becomes 255; nothing is clipped.
* 32-bit integers and floats: stretched from their own smallest and largest value.
* Transparency: composited on white.
* Several frames (GIF, WebP, TIFF): the first.
* Missing, empty, unknown, truncated, damaged, too large: :class:`UnreadableImage` with that reason.
"""

import math
from pathlib import Path

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

#: Pictures with more pixels are refused before they are decoded.
MAX_PIXELS = 2**27
_PLUGINS = (
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
    GifImagePlugin,
    BmpImagePlugin,
    TiffImagePlugin,
    PpmImagePlugin,
)
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_PREFIX_BYTES = 16


class UnreadableImage(ValueError):
    """A photo that cannot be decoded; carries its ``id`` and the ``reason`` in words."""

    def __init__(self, image_id: str, reason: str) -> None:
        super().__init__(f"{image_id}: {reason}")
        self.image_id = image_id
        self.reason = reason


def read_photo(path: Path, image_id: str, max_side: int | None = None) -> Image.Image:
    """Return the photo as an upright RGB image.

    Args:
        path: Its file.
        image_id: Its name in errors.
        max_side: The caller will shrink the picture until its longer side is at most this many pixels. A
            JPEG may then come at 1/2, 1/4 or 1/8 of its size, which is faster, never smaller than asked.

    Raises:
        UnreadableImage: with the reason in words.
    """
    try:
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise UnreadableImage(
                image_id, "does not exist" if not path.exists() else "is not a regular file"
            )
        if size == 0:
            raise UnreadableImage(image_id, "is empty")
        with path.open("rb") as stream:
            image = _opened(stream, image_id)
            if max_side is not None and image.format == "JPEG":
                scale = min(1.0, max_side / max(image.size))
                image.draft("RGB", (math.ceil(image.width * scale), math.ceil(image.height * scale)))
            return to_rgb(ImageOps.exif_transpose(image))
    except UnreadableImage:
        raise
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        raise UnreadableImage(image_id, _reason(error)) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Return ``image`` in 8-bit RGB: deep pixels scaled, transparency composited on white."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _opened(stream: object, image_id: str) -> ImageFile.ImageFile:
    """Read the header with the one decoder that knows the file's first bytes, and check the size it states.

    ``Image.open`` would do the same, but warns of large pictures by a limit of the whole process.
    """
    prefix = stream.read(_PREFIX_BYTES)  # type: ignore[attr-defined]
    for name in _FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(prefix) is not True:
            continue
        stream.seek(0)  # type: ignore[attr-defined]
        image = factory(stream, "")  # type: ignore[arg-type]
        if image.width * image.height > MAX_PIXELS:
            size = f"{image.width} x {image.height}"
            raise UnreadableImage(image_id, f"is too large ({size} pixels, the limit is {MAX_PIXELS} in all)")
        return image
    raise UnreadableImage(image_id, f"is not an image of a known format ({', '.join(_FORMATS)})")


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 [H, W] for 16-bit, 32-bit or float pixels."""
    values = pixels.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("pixels that are no finite numbers")
    if pixels.dtype.kind in "iu" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    return np.rint((values - low) * (255 / (high - low or 1.0))).astype(np.uint8)


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return f"is truncated ({text or 'it ends too early'})"
    if isinstance(error, PermissionError):
        return "cannot be read (permission denied)"
    return f"is damaged ({text or type(error).__name__})"
