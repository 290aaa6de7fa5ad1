"""Strong views of a photo for contrastive learning: as another person might show the same picture again.

The changes are those of Pizzi et al., *A Self-Supervised Descriptor for Image Copy Detection*, CVPR 2022
(SSCD: crops, turns, other photos around and on top, text, blur, colour, JPEG), and a camera's perspective.
"""

import string
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from niphash.data.pictures import rendering
from niphash.data.pictures.views import MEAN_PIXEL
from niphash.errors import InputError
from niphash.options import check_number

GROUP = "contrastive.views"
#: Photos whose shorter side has fewer pixels are too small for a crop that still shows something.
SMALLEST_SIDE = 32
#: Share of all views that may be turned any way up, where any turn is allowed at all.
ANY_TURN = 0.1


@dataclass(frozen=True)
class StrongView:
    """How far a strong view may differ from its photo; each chance is that of one change, from 0 to 1.

    Args:
        least_zoom: The photo at its smallest: square root of its area over the side of the view.
        most_zoom: The photo at its largest; above 1 the view is a crop.
        rotation: Largest usual turn in the plane, either way, degrees; one view in ten is turned any way.
        tilt: Largest turn out of the plane, about either axis, degrees.
        background: Chance that another photo, and not a plain colour, is seen around this one.
        overlay: Chance of a piece of another photo on top; the same of a line of text.
        grey: Chance of no colour.
        blur: Largest blur, standard deviation in hundredths of the view's side.
        noise: Largest standard deviation of the noise, grey levels.
        quality: Lowest JPEG quality.
    """

    least_zoom: float = 0.5
    most_zoom: float = 2.0
    rotation: float = 30.0
    tilt: float = 35.0
    background: float = 0.7
    overlay: float = 0.3
    grey: float = 0.1
    blur: float = 1.0
    noise: float = 6.0
    quality: int = 30

    def __post_init__(self) -> None:
        for name in ("background", "overlay", "grey"):
            check_number(name, getattr(self, name), least=0, most=1, group=GROUP)
        check_number("least_zoom", self.least_zoom, least=0.1, most=8, group=GROUP)
        check_number("most_zoom", self.most_zoom, least=0.1, most=8, group=GROUP)
        check_number("rotation", self.rotation, least=0, most=180, group=GROUP)
        check_number("tilt", self.tilt, least=0, most=60, group=GROUP)
        check_number("blur", self.blur, least=0, most=10, group=GROUP)
        check_number("noise", self.noise, least=0, most=100, group=GROUP)
        check_number("quality", self.quality, least=1, most=100, whole=True, group=GROUP)
        if self.least_zoom > self.most_zoom:
            raise InputError(
                f"{GROUP}.least_zoom={self.least_zoom}: is above most_zoom={self.most_zoom}; swap them"
            )

    @property
    def values(self) -> dict[str, float]:
        """The plain values that determine the views."""
        return asdict(self)

    def __call__(
        self, photo: np.ndarray, other: np.ndarray, side: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Return a strong view, uint8 [side, side, 3].

        Args:
            photo: uint8 [H, W, 3], of which the view is.
            other: uint8 [H', W', 3], what is seen around it and on top of it.
            side: Of the view, pixels.
            rng: Draws the changes.
        """
        behind = square_crop(other, side, rng) if rng.random() < self.background else _plain(side, rng)
        seen = self._placed(photo, behind, rng)
        if rng.random() < self.overlay:
            _lay_piece(seen, other, rng)
        if rng.random() < self.overlay:
            _lay_text(seen, rng)
        return self._developed(seen, rng)

    def _placed(self, photo: np.ndarray, behind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return ``behind`` with the photo laid on it as a camera would see it."""
        side = len(behind)
        zoom = np.exp(rng.uniform(np.log(self.least_zoom), np.log(self.most_zoom)))
        factor = zoom * side / np.sqrt(photo.shape[0] * photo.shape[1])
        if factor < 1:
            photo = rendering.shrink(photo, factor)  # first: a warp that shrinks would alias
        size = (photo.shape[1], photo.shape[0])
        scale = max(factor, 1.0)
        # a photo larger than the view fills it, a smaller one lies inside it
        room = np.abs(np.array(size) * scale - side) / 2
        centre = side / 2 + rng.uniform(-room, room)
        turn = 180.0 if self.rotation and rng.random() < ANY_TURN else self.rotation
        angle = np.deg2rad(rng.uniform(-turn, turn))
        tilt = np.deg2rad(rng.uniform(-self.tilt, self.tilt, 2))
        pose = rendering.pose(
            size, (float(centre[0]), float(centre[1])), scale, angle, (float(tilt[0]), float(tilt[1]))
        )
        return rendering.paste(behind, photo, pose)

    def _developed(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the picture in another light and of another colour, blurred, noisy and compressed."""
        lit = rendering.light(picture, rng)
        grey = cv2.cvtColor(cv2.cvtColor(lit, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        colour = 0.0 if rng.random() < self.grey else float(rng.uniform(0.5, 1.5))
        lit = cv2.addWeighted(lit, colour, grey, 1 - colour, 0)
        blur = rng.uniform(0.0, self.blur) * len(lit) / 100
        noisy = rendering.sensor(lit, blur, rng.uniform(0.0, self.noise), rng)
        return np.asarray(rendering.decode(rendering.jpeg(noisy, int(rng.integers(self.quality, 96)))))


def square_crop(
    picture: np.ndarray, side: int, rng: np.random.Generator, smallest: float = 0.5
) -> np.ndarray:
    """Return a random square of a picture, uint8 [side, side, 3].

    Its side is between ``smallest`` and 1 of the shorter side of uint8 [H, W, 3].
    """
    height, width = picture.shape[:2]
    taken = max(1, round(min(height, width) * rng.uniform(smallest, 1.0)))
    left, top = int(rng.integers(width - taken + 1)), int(rng.integers(height - taken + 1))
    part = rendering.cut(picture, (left, top, taken, taken))
    return cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if taken > side else cv2.INTER_LINEAR)


def slight_crop(picture: np.ndarray, smallest: float, rng: np.random.Generator) -> np.ndarray:
    """Return ``picture`` without random margins: at least ``smallest`` of width and of height remain."""
    height, width = picture.shape[:2]
    w, h = (max(1, round(length * rng.uniform(smallest, 1.0))) for length in (width, height))
    return rendering.cut(picture, (int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h))


def _plain(side: int, rng: np.random.Generator) -> np.ndarray:
    """Return one colour, uint8 [side, side, 3]: as often the mean pixel as any other."""
    colour = MEAN_PIXEL if rng.random() < 0.5 else rng.integers(0, 256, 3)
    return np.full((side, side, 3), colour, np.uint8)


def _lay_piece(picture: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> None:
    """Lay a piece of another photo over a twentieth to a quarter of ``picture``, in place."""
    side = len(picture)
    area = rng.uniform(0.05, 0.25) * side**2
    shape = np.exp(rng.uniform(-0.7, 0.7))
    width, height = (
        int(np.clip(length, 1, side)) for length in (np.sqrt(area * shape), np.sqrt(area / shape))
    )
    left, top = int(rng.integers(side - width + 1)), int(rng.integers(side - height + 1))
    piece = square_crop(other, max(width, height), rng, 0.3)[:height, :width]
    picture[top : top + height, left : left + width] = piece


def _lay_text(picture: np.ndarray, rng: np.random.Generator) -> None:
    """Write a line of random letters across ``picture``, in place."""
    side = len(picture)
    letters = list(string.ascii_letters + string.digits + " ")
    text = "".join(rng.choice(letters, int(rng.integers(4, 13))))
    place = (int(rng.integers(-side // 8, side // 2)), int(rng.integers(side // 8, side)))
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    scale, thick = side / 200 * rng.uniform(0.5, 1.5), max(1, round(side / 100 * rng.uniform(0.5, 2.0)))
    face = int(
        rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX])
    )
    cv2.putText(picture, text, place, face, scale, colour, thick, cv2.LINE_AA)
