"""One picture to an upright RGB image, whatever its format; a file is not believed.

There is one way from a picture to pixels, :func:`upright_rgb`; files (:func:`read_photo`), Pillow images and
arrays take it alike, so the same picture gives the same pixels. What each kind of file becomes:

* EXIF orientation is applied; colour profiles are not.
* CMYK, YCbCr, palette, black and white, grey: converted to RGB.
* 16 bits a channel: divided by 257, so that 65535 becomes 255; nothing is clipped.
* 32-bit integers and floats: stretched from their own smallest and largest value.
* Transparency: composited on white.
* Several frames (GIF, WebP, TIFF, MPO, AVIF): the first.
* More than :data:`FULL_PIXELS`: averaged over squares of 2 x 2, 3 x 3, ... pixels.
* Missing, empty, unknown, truncated, damaged, too large: :class:`UnreadableImage` with that reason.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

#: Raised with every change of what pixels a picture gives: part of the fingerprint of whatever describes it.
READING = 2
#: Pictures with more pixels are refused before they are decoded.
MAX_PIXELS = 2**27
#: Pictures with more pixels are averaged down to at most so many; descriptors look at far fewer.
FULL_PIXELS = 2**24
#: What a picture may take while it is decoded.
MAX_BYTES = 2**30
#: Scans of a progressive JPEG times its pixels: each scan goes over the whole picture and may be a few bytes.
MAX_SCANNED_PIXELS = 2**31
#: Measured peaks of the decoders in bytes a pixel, where they are above the eight that the others stay below.
_PEAK_BYTES = {"WEBP": 16, "AVIF": 10, "progressive JPEG": 10}
_USUAL_PEAK_BYTES = 8
_PLUGINS = (
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
    GifImagePlugin,
    BmpImagePlugin,
    TiffImagePlugin,
    PpmImagePlugin,
    AvifImagePlugin,
)
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_PREFIX_BYTES = 64
_STRIP_PIXELS = 2**20
_ORIENTATION_TAG = 0x0112
#: EXIF orientation -> the transposition that undoes it.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Only one picture above FULL_PIXELS is decoded at a time, however many threads read.
_ONE_LARGE = threading.Lock()

HEIF_REMEDY = "install niphash[heif]"
AVIF_REMEDY = "install a Pillow that reads AVIF"


class UnreadableImage(ValueError):
    """A photo that cannot be decoded; carries its ``id`` and the ``reason`` in words."""

    def __init__(self, image_id: str, reason: str) -> None:
        super().__init__(f"{image_id}: {reason}")
        self.image_id = image_id
        self.reason = reason


class Box(NamedTuple):
    """A region of interest in pixels of the upright image, right and bottom edges exclusive."""

    left: float
    top: float
    right: float
    bottom: float


def reads_heif() -> bool:
    """Return whether HEIC files can be read (``pillow-heif``, the extra ``niphash[heif]``)."""
    return find_spec("pillow_heif") is not None


def reads_avif() -> bool:
    """Return whether this Pillow reads AVIF files."""
    return bool(features.check("avif"))


def read_photo(path: Path, image_id: str, box: Box | None = None) -> Image.Image:
    """Return the photo as an upright RGB image, see :func:`upright_rgb`.

    Args:
        path: Its file.
        image_id: Its name in errors.
        box: The part of the upright picture to return; the whole when it is not given.

    Raises:
        UnreadableImage: with the reason in words.
    """
    with _photo(path, image_id) as image:
        return upright_rgb(image, image_id, box)


def check_photo(path: Path, image_id: str) -> None:
    """Decode the photo without keeping it, a JPEG at an eighth of its size: that meets a cut file as well.

    Raises:
        UnreadableImage: with the reason in words.
    """
    with _photo(path, image_id) as image:
        if image.format in ("JPEG", "MPO"):
            image.draft("RGB", (1, 1))
        image.load()


def photo_size(path: Path, image_id: str) -> tuple[int, int]:
    """Return width and height of the upright photo in pixels, from the header of its file.

    Raises:
        UnreadableImage: with the reason in words.
    """
    with _photo(path, image_id) as image:
        turned = image.format != "TIFF" and _orientation(image) >= 5  # Pillow turns the size of a TIFF itself
        return (image.height, image.width) if turned else image.size


def is_photo(path: Path) -> bool:
    """Return whether the file begins like a picture that can be read, whatever its name says."""
    try:
        with path.open("rb") as stream:
            return _opened(stream, path.name) is not None
    except UnreadableImage as error:
        return "too large" in error.reason  # a picture all the same: it is counted where it is read
    except Exception:  # not the format that its first bytes promise
        return False


def upright_rgb(image: Image.Image, image_id: str, box: Box | None = None) -> Image.Image:
    """Return a picture as an upright image in 8-bit RGB, of at most :data:`FULL_PIXELS` pixels.

    EXIF orientation is applied, deep pixels are scaled, transparency is composited on white. A larger picture
    is averaged over squares of pixels; what fills no square at its right and bottom edge is left out.

    Args:
        image: Any Pillow image; loaded here.
        image_id: Its name in errors.
        box: The part of the upright picture to return; the whole when it is not given.

    Raises:
        UnreadableImage: the picture cannot be decoded, or the box misses it.
    """
    try:
        with _ONE_LARGE if image.width * image.height > FULL_PIXELS else nullcontext():
            image.load()
            orientation = _orientation(image)
            turned = orientation >= 5
            size = (image.height, image.width) if turned else image.size
            left, top, right, bottom = pixel_box(box, size, image_id) if box is not None else (0, 0, *size)
            across, down = _squares(right - left, bottom - top)
            right -= (right - left) % across
            bottom -= (bottom - top) % down
            stored = _stored_box((left, top, right, bottom), image.size, orientation)
            rgb = _rgb(image, stored, (down, across) if turned else (across, down))
    except UnreadableImage:
        raise
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        raise UnreadableImage(image_id, _reason(error)) from error
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def to_rgb(image: Image.Image) -> Image.Image:
    """Return ``image`` in 8-bit RGB: deep pixels scaled, transparency composited on white."""
    return _rgb(image, (0, 0, *image.size), (1, 1))


def pixel_box(box: Box, size: tuple[int, int], image_id: str) -> tuple[int, int, int, int]:
    """Return ``box`` with its edges rounded to pixels and clipped to a picture of ``size``.

    Raises:
        UnreadableImage: the box misses the picture.
    """
    width, height = size
    left, top = max(0, round(box.left)), max(0, round(box.top))
    right, bottom = min(width, round(box.right)), min(height, round(box.bottom))
    if right <= left or bottom <= top:
        raise UnreadableImage(image_id, f"its box {tuple(box)} lies outside the {width} x {height} image")
    return left, top, right, bottom


@contextmanager
def _photo(path: Path, image_id: str) -> Iterator[ImageFile.ImageFile]:
    """Open a file as a picture whose header has been checked; every fault is an UnreadableImage."""
    try:
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise UnreadableImage(
                image_id, "does not exist" if not path.exists() else "is not a regular file"
            )
        if size == 0:
            raise UnreadableImage(image_id, "is empty")
        with path.open("rb") as stream:
            yield _opened(stream, image_id)
    except UnreadableImage:
        raise
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        raise UnreadableImage(image_id, _reason(error)) from error


def _opened(stream: IO[bytes], image_id: str) -> ImageFile.ImageFile:
    """Read the header with the one decoder that knows the file's first bytes, and check the size it states.

    ``Image.open`` would do the same, but warns of large pictures by a limit of the whole process.
    """
    prefix = stream.read(_PREFIX_BYTES)
    stream.seek(0)
    image = _factory(prefix, image_id)(stream, "")
    kind = str(image.format)
    if kind in ("JPEG", "MPO") and image.info.get("progressive"):
        kind = "progressive JPEG"
        _check_scans(stream, image, image_id)
    limit = min(MAX_PIXELS, MAX_BYTES // _PEAK_BYTES.get(kind, _USUAL_PEAK_BYTES))
    if image.width * image.height > limit:
        size = f"{image.width} x {image.height}"
        raise UnreadableImage(
            image_id, f"is too large ({size} pixels, the limit of a {kind} is {limit} in all)"
        )
    return image


def _factory(prefix: bytes, image_id: str) -> Any:
    """Return what opens a file that begins with ``prefix``."""
    brands = _brands(prefix)
    if brands & _AVIF_BRANDS:
        if not reads_avif():
            raise UnreadableImage(image_id, f"is AVIF ({AVIF_REMEDY})")
        return Image.OPEN["AVIF"][0]
    if brands & _HEIF_BRANDS:
        if not reads_heif():
            raise UnreadableImage(image_id, f"is HEIC ({HEIF_REMEDY})")
        from pillow_heif import HeifImageFile

        return HeifImageFile
    for name in _FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(prefix) is True:
            return factory
    known = (*_FORMATS, *(["AVIF"] * reads_avif()), *(["HEIC"] * reads_heif()))
    raise UnreadableImage(image_id, f"is not an image of a known format ({', '.join(known)})")


def _brands(prefix: bytes) -> set[bytes]:
    """Return the brands of an ISO media file (ISO/IEC 14496-12, box ``ftyp``); none for other files."""
    if prefix[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(prefix[:4], "big"), len(prefix))
    return {prefix[8:12], *(prefix[start : start + 4] for start in range(16, end - 3, 4))}


def _check_scans(stream: IO[bytes], image: Image.Image, image_id: str) -> None:
    """Refuse a JPEG of so many scans that it would be decoded for minutes."""
    position = stream.tell()
    stream.seek(0)
    scans = stream.read().count(b"\xff\xda")
    stream.seek(position)
    if scans * image.width * image.height > MAX_SCANNED_PIXELS:
        raise UnreadableImage(
            image_id, f"is too large ({scans} scans of {image.width} x {image.height} pixels)"
        )


def _orientation(image: Image.Image) -> int:
    orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _squares(width: int, height: int) -> tuple[int, int]:
    """Return over how many pixels across and down a picture is averaged: equally many unless it is thin."""
    side = math.ceil(math.sqrt(width * height / FULL_PIXELS)) if width * height > FULL_PIXELS else 1
    across, down = min(side, width), min(side, height)
    across = min(width, max(across, math.ceil(width * (height // down) / FULL_PIXELS)))
    return across, min(height, max(down, math.ceil(height * (width // across) / FULL_PIXELS)))


def _stored_box(
    box: tuple[int, int, int, int], size: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """Return a box of the upright picture as a box of the stored one, of ``size``."""
    left, top, right, bottom = box
    if orientation >= 5:
        left, top, right, bottom = top, left, bottom, right
    if orientation in (2, 3, 7, 8):
        left, right = size[0] - right, size[0] - left
    if orientation in (3, 4, 6, 7):
        top, bottom = size[1] - bottom, size[1] - top
    return left, top, right, bottom


def _rgb(image: Image.Image, box: tuple[int, int, int, int], squares: tuple[int, int]) -> Image.Image:
    """Return a part of ``image`` in RGB, averaged over squares; strip by strip, so that memory stays small.

    Args:
        image: Loaded.
        box: The part, in pixels as stored; its sides are multiples of ``squares``.
        squares: Pixels across and down that become one.
    """
    left, top, right, bottom = box
    across, down = squares
    low, high = _value_range(image)
    whole = Image.new("RGB", ((right - left) // across, (bottom - top) // down))
    rows = max(1, _STRIP_PIXELS // ((right - left) * down)) * down
    for start in range(top, bottom, rows):
        strip = _strip_rgb(image.crop((left, start, right, min(start + rows, bottom))), low, high)
        whole.paste(strip.reduce((across, down)) if squares != (1, 1) else strip, (0, (start - top) // down))
    return whole


def _strip_rgb(strip: Image.Image, low: float, high: float) -> Image.Image:
    if _is_deep(strip):
        values = np.asarray(strip).astype(np.float64)
        scaled = np.rint((values - low) * (255 / (high - low or 1.0))).astype(np.uint8)
        return Image.fromarray(scaled).convert("RGB")
    if strip.has_transparency_data:
        rgba = strip.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return strip.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _value_range(image: Image.Image) -> tuple[float, float]:
    """Return which values of deep pixels become 0 and 255; of no meaning for 8-bit pictures."""
    if not _is_deep(image):
        return 0.0, 255.0
    low, high, whole_numbers = math.inf, -math.inf, True
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        values = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        whole_numbers = values.dtype.kind in "iu"
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("pixels that are no finite numbers")
    return (0.0, 65535.0) if whole_numbers and low >= 0 and high <= 65535 else (low, high)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return f"is truncated ({text or 'it ends too early'})"
    if isinstance(error, PermissionError):
        return "cannot be read (permission denied)"
    return f"is damaged ({text or type(error).__name__})"
