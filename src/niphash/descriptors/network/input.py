"""How a photo is laid on a network's input."""

from typing import Literal, get_args

import numpy as np
from PIL import Image

from niphash.errors import InputError

InputMode = Literal["crop", "squash", "pad", "aspect"]

#: What surrounds a padded or rotated image: ImageNet's mean, RGB.
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
    if mode == "crop":
        return np.asarray(_resize(_central_square(image), side, side))
    image = _resize(image, max(1, round(width * side / natural)), max(1, round(height * side / natural)))
    if mode == "aspect":
        return np.asarray(image)
    canvas = Image.new("RGB", (side, side), MEAN_PIXEL)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(canvas)


def _central_square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
