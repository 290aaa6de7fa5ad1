"""How a photo is laid on a network's input."""

from typing import Literal, get_args

import numpy as np
from PIL import Image

from niphash.errors import InputError

InputMode = Literal["crop", "squash", "pad", "aspect"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
#: What surrounds a padded or rotated image, RGB.
MEAN_PIXEL = (124, 116, 104)


def check_mode(mode: str) -> None:
    """Raise :class:`InputError` when ``mode`` is no input mode."""
    if mode not in get_args(InputMode):
        raise InputError(f"backbone.input={mode}: choose one of {', '.join(get_args(InputMode))}")


def lay_out(image: Image.Image, size: int, mode: str, zoom: float = 1.0) -> np.ndarray:
    """Return ``image`` as uint8 RGB [H, W, 3] for an input of ``size`` pixels (anti-aliased).

    ``crop``: shorter side to ``size``, then the central square. ``squash``: both sides to ``size``. ``pad``:
    longer side to ``size``, mean pixel around. ``aspect``: longer side to ``size``, shape kept.

    Args:
        image: The photo.
        size: Side of the network's input, pixels.
        mode: One of :data:`InputMode`.
        zoom: The result may be this many times larger than ``size``, as far as the photo has the pixels.
    """
    width, height = image.size
    natural = min(width, height) if mode == "crop" else max(width, height)
    side = round(min(max(natural, size), zoom * size))
    if mode == "squash":
        return np.asarray(_resize(image, side, side))
    scale = side / natural
    if mode == "crop":
        box = _central_square(width, height)
        return np.asarray(_resize(image, side, side, box))
    image = _resize(image, max(1, round(width * scale)), max(1, round(height * scale)))
    if mode == "aspect":
        return np.asarray(image)
    canvas = Image.new("RGB", (side, side), MEAN_PIXEL)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(canvas)


def _central_square(width: int, height: int) -> tuple[float, float, float, float]:
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side)


def _resize(
    image: Image.Image, width: int, height: int, box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
