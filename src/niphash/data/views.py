"""Views: changes of a photo before it is described; for robustness studies and for unlabelled pairs."""

import io
import math
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from niphash.data.images import View
from niphash.errors import InputError

#: The ImageNet mean colour: what a network's normalisation turns into zeros.
MEAN_PIXEL = (124, 116, 104)
LONGER_SIDE = 640  # pixels, of a query at scale 1 (protocol of the robustness studies)


@dataclass(frozen=True)
class RotatedDisc:
    """The central disc of a photo, turned; everything outside the disc is the mean pixel.

    Practical guide (Chandrasekhar et al.), section 4: all angles show the same part of the photo.

    Attributes:
        degrees: Counter-clockwise.
    """

    degrees: float

    @property
    def key(self) -> str:
        """Text that determines the view."""
        return f"disc rotated by {self.degrees:g} degrees"

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """Return the square picture around the turned disc."""
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        turned = square.rotate(self.degrees, Image.Resampling.BICUBIC, fillcolor=MEAN_PIXEL)
        return Image.composite(turned, Image.new("RGB", turned.size, MEAN_PIXEL), _disc(side))


@dataclass(frozen=True)
class Scaled:
    """A photo shrunk, with anti-aliasing, to ``ratio`` of a longer side of 640 pixels; never enlarged."""

    ratio: float

    @property
    def key(self) -> str:
        """Text that determines the view."""
        return f"longer side {self.ratio:g} x {LONGER_SIDE}"

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """Return the shrunk picture."""
        factor = self.ratio * LONGER_SIDE / max(image.size)
        if factor >= 1:
            return image
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        return image.resize(size, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Chain:
    """One view after another."""

    views: tuple[View, ...]

    @property
    def key(self) -> str:
        """Text that determines the view."""
        return ", then ".join(view.key for view in self.views)

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """Return the picture seen through all views, the first one first."""
        for view in self.views:
            image = view(image, index)
        return image


@dataclass(frozen=True)
class RandomView:
    """Another look at the same photo, for matching pairs without labels; its corners come from the photo.

    A crop, a rotation and a tilt in one homography, then light, colour, blur and JPEG. The same
    ``(seed, copy, index)`` always gives the same view.

    Attributes:
        seed: Of all views.
        copy: Which of several views of one photo.
        rotation: Largest in-plane rotation, degrees either way.
        scale: Smallest and largest part of the photo's sides that is seen.
        tilt: Largest shift of a corner, as a part of the side.
        light: Largest relative change of brightness, contrast and colour.
        blur: Largest blur radius, pixels at a longer side of 640.
    """

    seed: int
    copy: int
    rotation: float = 30.0
    scale: tuple[float, float] = (0.6, 1.0)
    tilt: float = 0.08
    light: float = 0.3
    blur: float = 1.2

    @property
    def key(self) -> str:
        """Text that determines the view."""
        return repr(self)

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """Return the changed picture, as large as what it shows was."""
        rng = np.random.default_rng((self.seed, self.copy, index))
        corners, size = self._quadrilateral(image.size, rng)
        return self._photograph(_rectify(image, corners, size), rng)

    def _quadrilateral(
        self, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Return four corners [4, 2] in the photo (it is mirrored beyond its border) and the view's size."""
        sides = np.array(size, float) * rng.uniform(*self.scale)
        angle = math.radians(rng.uniform(-self.rotation, self.rotation))
        unit = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        unit = unit + rng.uniform(-self.tilt, self.tilt, unit.shape)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        free = np.maximum(np.array(size) - sides, 0) / 2
        centre = np.array(size) / 2 + rng.uniform(-1, 1, 2) * free
        width, height = (max(8, round(side)) for side in sides)
        return (unit * sides) @ turn.T + centre, (width, height)

    def _photograph(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(1 + rng.uniform(-self.light, self.light))
        radius = rng.uniform(0, self.blur) * max(image.size) / LONGER_SIDE
        image = image.filter(ImageFilter.GaussianBlur(radius))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(rng.integers(50, 95)))
        return Image.open(file).convert("RGB")


def query_views(rotate_query: float | None, scale_query: float | None) -> View | None:
    """Return the view of ``data.rotate_query`` (degrees) and ``data.scale_query`` (ratio), if any.

    Raises:
        InputError: the ratio is not above 0.
    """
    views: list[View] = []
    if rotate_query is not None:
        views.append(RotatedDisc(float(rotate_query)))
    if scale_query is not None:
        if not scale_query > 0:
            raise InputError(f"data.scale_query={scale_query}: give a ratio above 0, for instance 0.5")
        views.append(Scaled(float(scale_query)))
    if len(views) < 2:
        return views[0] if views else None
    return Chain(tuple(views))


def _rectify(image: Image.Image, corners: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Return what lies inside ``corners`` as an upright picture of ``size``, mirrored beyond the border."""
    width, height = size
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    homography = cv2.getPerspectiveTransform(corners.astype(np.float32), target)
    pixels = cv2.warpPerspective(
        np.asarray(image), homography, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return Image.fromarray(pixels)


def _disc(side: int) -> Image.Image:
    """Return the anti-aliased mask of a disc that touches the four sides of a square."""
    fine = Image.new("L", (4 * side, 4 * side))
    ImageDraw.Draw(fine).ellipse((0, 0, 4 * side - 1, 4 * side - 1), fill=255)
    return fine.resize((side, side), Image.Resampling.BOX)
