"""Views: changes of a picture before it is described (``ImageSet.with_view``)."""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from niphash.data.images import View
from niphash.data.pictures import rendering
from niphash.errors import InputError

MEAN_PIXEL = (124, 116, 104)  # of ImageNet, RGB
FULL_SIDE = 640  # longer side of the picture that Scaled(1) gives, pixels


@dataclass(frozen=True)
class RotatedDisc:
    """The central disc of a picture, turned by ``degrees`` anticlockwise; the rest is the mean pixel.

    The result is the square about the disc, so a turn neither adds nor removes anything: the rotation study
    of Morere et al., *Group Invariant Deep Representations*, 2016 (method.md 8). The turn is interpolated
    bicubically, the edge of the disc is anti-aliased.
    """

    degrees: float

    @property
    def key(self) -> str:
        """Text that determines the change."""
        return f"disc({self.degrees % 360:g})"

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """Return a square RGB picture whose side is the shorter side of ``image``."""
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = np.asarray(image.convert("RGB"))[top : top + side, left : left + side]
        centre = (side - 1) / 2
        turn = cv2.getRotationMatrix2D((centre, centre), self.degrees % 360, 1.0)
        turned = cv2.warpAffine(
            square, turn, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        y, x = np.ogrid[:side, :side]
        inside = np.clip(side / 2 - np.hypot(x - centre, y - centre), 0, 1)[..., None]  # [S, S, 1]
        blended = turned * inside + np.array(MEAN_PIXEL) * (1 - inside)
        return Image.fromarray(np.rint(blended).astype(np.uint8))


@dataclass(frozen=True)
class Scaled:
    """A picture resized, anti-aliased, so that its longer side is ``ratio`` x :data:`FULL_SIDE` pixels."""

    ratio: float

    @property
    def key(self) -> str:
        """Text that determines the change."""
        return f"scaled({self.ratio:g})"

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """Return the resized RGB picture, aspect kept."""
        factor = self.ratio * FULL_SIDE / max(image.size)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        return image.convert("RGB").resize(
            size, Image.Resampling.LANCZOS
        )  # Pillow low-passes when it shrinks


@dataclass(frozen=True)
class RandomView:
    """Another photo of the same thing: a random crop, turned, resized, tilted, lit, blurred and compressed.

    Two copies of one photo are a matching pair that needs no label. The view depends on ``seed``, ``copy``
    and the image's number in its set alone.

    Args:
        seed: Of all views of a run.
        copy: Number of the view.
        rotation: Largest turn in the picture's plane, either way, degrees.
        scale: Smallest magnification; the largest is 1.
        tilt: Largest turn out of the picture's plane, about either axis, degrees.
        crop: Smallest share of width and of height that is kept.
    """

    seed: int
    copy: int
    rotation: float = 180.0
    scale: float = 0.5
    tilt: float = 25.0
    crop: float = 0.7

    @property
    def key(self) -> str:
        """Text that determines the change."""
        return f"random({self.seed},{self.copy},{self.rotation:g},{self.scale:g},{self.tilt:g},{self.crop:g})"

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """Return view :attr:`copy` of ``image``, on the mean pixel, at most as large as it has to be."""
        rng = np.random.default_rng([self.seed, self.copy, index])
        part = _random_crop(np.asarray(image.convert("RGB")), self.crop, rng)
        part = rendering.shrink(part, rng.uniform(self.scale, 1.0))  # first: a warp that shrinks would alias
        tilt = np.deg2rad(rng.uniform(-self.tilt, self.tilt, 2))
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        size = (part.shape[1], part.shape[0])
        homography = rendering.pose(size, (0.0, 0.0), 1.0, angle, (float(tilt[0]), float(tilt[1])))
        homography, frame = rendering.frame(homography, size, np.ones(2), np.zeros(2))
        ground = np.full((frame[1], frame[0], 3), MEAN_PIXEL, np.uint8)
        lit = rendering.light(rendering.paste(ground, part, homography), rng)
        seen = rendering.sensor(lit, rng.uniform(0.0, 1.0), rng.uniform(0.0, 3.0), rng)
        return rendering.decode(rendering.jpeg(seen, int(rng.integers(50, 96))))


@dataclass(frozen=True)
class Composed:
    """Several views, one after the other."""

    views: tuple[View, ...]

    @property
    def key(self) -> str:
        """Text that determines the change."""
        return "+".join(view.key for view in self.views)

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """Return what is left after the last view."""
        for view in self.views:
            image = view(image, index)
        return image


def query_views(rotate_query: float | None, scale_query: float | None) -> View | None:
    """Return the view that ``views.rotate_query`` (degrees) and ``views.scale_query`` ask for, if any.

    Rotation comes first. An angle of 0 still cuts the disc, so that a curve over angles has its own origin.

    Raises:
        InputError: an angle that is no finite number, or a ratio outside (0, 4].
    """
    views: list[View] = []
    if rotate_query is not None:
        if not np.isfinite(rotate_query):
            raise InputError(f"views.rotate_query={rotate_query}: give an angle in degrees")
        views.append(RotatedDisc(float(rotate_query)))
    if scale_query is not None:
        if not 0 < scale_query <= 4:
            raise InputError(f"views.scale_query={scale_query}: give a ratio above 0 and up to 4")
        views.append(Scaled(float(scale_query)))
    if not views:
        return None
    return views[0] if len(views) == 1 else Composed(tuple(views))


def _random_crop(picture: np.ndarray, smallest: float, rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    w, h = (max(1, round(side * rng.uniform(smallest, 1.0))) for side in (width, height))
    left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    return rendering.cut(picture, (left, top, w, h))
