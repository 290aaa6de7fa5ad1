"""Photographs of flat objects made from photographs: cut, place in space, light, blur, add noise, encode.

Pictures are uint8 arrays [H, W, 3] in RGB; sizes and boxes are in pixels, width before height. Whatever is
random is drawn from the generator that the caller passes.
"""

import io
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from PIL import Image

Size = tuple[int, int]  # width, height
Rect = tuple[int, int, int, int]  # left, top, width, height

CAMERA_DISTANCE = 3.0  # of the pinhole from the centre of the object, in longer sides of the object


def cut(photo: np.ndarray, rect: Rect) -> np.ndarray:
    """Return the part of ``photo`` inside ``rect``."""
    left, top, width, height = rect
    return photo[top : top + height, left : left + width]


def overlap(a: Rect, b: Rect) -> bool:
    """Return whether two rectangles share a pixel."""
    apart_x = a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0]
    apart_y = a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]
    return not (apart_x or apart_y)


def textured_rects(
    photo: np.ndarray,
    sizes: Sequence[Size],
    count: int,
    threshold: float,
    rng: np.random.Generator,
    taken: Sequence[Rect] = (),
    disjoint: bool = True,
    tries: int = 4000,
) -> list[Rect]:
    """Return at most ``count`` random rectangles that have texture everywhere.

    A rectangle has texture when the mean gradient magnitude (grey levels a pixel) of the poorest of its
    four quarters reaches ``threshold``.

    Args:
        photo: Where to look.
        sizes: The sizes to draw from; those larger than the photo are never used.
        count: How many rectangles are wanted.
        threshold: See above.
        rng: Draws sizes and places.
        taken: Rectangles that no result may overlap.
        disjoint: Whether the results must not overlap one another.
        tries: How many rectangles are looked at before the search ends.
    """
    height, width = photo.shape[:2]
    fitting = [(w, h) for w, h in sizes if w <= width and h <= height]
    sums = cv2.integral(_gradient(photo), sdepth=cv2.CV_64F)
    found: list[Rect] = []
    for _ in range(tries if fitting else 0):
        if len(found) == count:
            break
        w, h = fitting[rng.integers(len(fitting))]
        rect = (int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)
        if any(overlap(rect, other) for other in taken):
            continue
        if disjoint and any(overlap(rect, other) for other in found):
            continue
        if _poorest_quarter(sums, rect) >= threshold:
            found.append(rect)
    return found


def _gradient(photo: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return cv2.magnitude(
        cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)
    )


def _poorest_quarter(sums: np.ndarray, rect: Rect) -> float:
    x, y, width, height = rect
    xs = (x, x + width // 2, x + width)
    ys = (y, y + height // 2, y + height)
    means = [
        (sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left])
        / ((bottom - top) * (right - left))
        for top, bottom in pairwise(ys)
        for left, right in pairwise(xs)
    ]
    return float(min(means))


def pose(
    size: Size, centre: tuple[float, float], scale: float, angle: float, tilt: tuple[float, float]
) -> np.ndarray:
    """Return the homography float64 [3, 3] from the pixels of a flat object to those of a picture of it.

    The object turns by ``angle`` in its own plane, then about the picture's x and y axes by ``tilt`` (all in
    radians), and is seen by a pinhole camera :data:`CAMERA_DISTANCE` away, which magnifies its centre by
    ``scale`` and shows it at ``centre``.
    """
    width, height = size
    distance = CAMERA_DISTANCE * max(size)
    (ca, sa), (cx, sx), (cy, sy) = ((np.cos(t), np.sin(t)) for t in (angle, *tilt))
    in_plane = np.array([[ca, -sa, 0], [sa, ca, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turned = about_y @ about_x @ in_plane
    flat = np.column_stack([turned[:, 0], turned[:, 1], [0, 0, distance]])  # plane z = 0, moved away
    focus = scale * distance
    camera = np.array([[focus, 0, centre[0]], [0, focus, centre[1]], [0, 0, 1]])
    to_centre = np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, 1]])
    return camera @ flat @ to_centre


def frame(
    homography: np.ndarray, size: Size, sides: np.ndarray, place: np.ndarray
) -> tuple[np.ndarray, Size]:
    """Choose the part of the plane that a picture shows.

    Args:
        homography: From the pixels of an object of ``size`` to the plane.
        size: Of the object.
        sides: Width and height of the picture over those of the object's bounding box.
        place: Where the bounding box lies in the picture, 0 (left, top) to 1 (right, bottom).

    Returns:
        The homography to the pixels of the picture, and the picture's size.
    """
    corners = _corners(homography, size)
    first, extent = corners.min(axis=0), np.ptp(corners, axis=0)
    shown = np.ceil(extent * sides)
    offset = (shown - extent) * place - first
    moved = np.array([[1, 0, offset[0]], [0, 1, offset[1]], [0, 0, 1]]) @ homography
    return moved, (int(shown[0]), int(shown[1]))


def _corners(homography: np.ndarray, size: Size) -> np.ndarray:
    """Return where the corners of an object of ``size`` come to lie, float64 [4, 2]."""
    width, height = size
    corners = np.array([[[0, 0], [width, 0], [width, height], [0, height]]], np.float64)
    return cv2.perspectiveTransform(corners, homography)[0]


def paste(canvas: np.ndarray, patch: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """Return ``canvas`` with ``patch`` laid on it through ``homography``, its edges anti-aliased."""
    corners = _corners(homography, patch.shape[1::-1])
    limit = np.array(canvas.shape[1::-1])
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, limit)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, limit)
    result = canvas.copy()
    if left >= right or top >= bottom:
        return result
    size = (int(right - left), int(bottom - top))
    moved = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]]) @ homography
    warped = cv2.warpPerspective(patch, moved, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    mask = np.full(patch.shape[:2], 255, np.uint8)
    alpha = cv2.warpPerspective(mask, moved, size, flags=cv2.INTER_LINEAR)[..., None].astype(np.uint16)
    under = result[top:bottom, left:right]
    result[top:bottom, left:right] = (warped * alpha + under * (255 - alpha) + 127) // 255
    return result


def enlarge(patch: np.ndarray, side: int) -> np.ndarray:
    """Return ``patch`` resized so that its longer side is ``side`` (at least its own)."""
    factor = side / max(patch.shape[:2])
    size = (round(patch.shape[1] * factor), round(patch.shape[0] * factor))
    return cv2.resize(patch, size, interpolation=cv2.INTER_CUBIC)


def shrink(picture: np.ndarray, factor: float) -> np.ndarray:
    """Return ``picture`` resized by ``factor`` (at most 1), anti-aliased."""
    height, width = picture.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def backdrop(patch: np.ndarray, size: Size, blur: float, rng: np.random.Generator) -> np.ndarray:
    """Return ``patch`` turned, enlarged and mirrored at its borders until it fills ``size``, out of focus."""
    scale, angle = rng.uniform(1.5, 3.0), rng.uniform(0, 2 * np.pi)
    homography = pose(patch.shape[1::-1], (size[0] / 2, size[1] / 2), scale, angle, (0.0, 0.0))
    filled = cv2.warpPerspective(
        patch, homography, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return cv2.GaussianBlur(filled, (0, 0), blur)


def light(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ``picture`` under another light: exposure, contrast, colour cast and a gradient across it."""
    height, width = picture.shape[:2]
    direction = rng.uniform(-0.15, 0.15, 2)
    across = np.linspace(-direction[0], direction[0], width, dtype=np.float32)[None, :, None]
    down = np.linspace(-direction[1], direction[1], height, dtype=np.float32)[:, None, None]
    gain = (rng.uniform(0.65, 1.02) * rng.uniform(0.94, 1.06, 3)).astype(np.float32)  # [3]
    contrast = np.float32(rng.uniform(0.7, 1.0))
    lit = ((picture - np.float32(128)) * contrast + np.float32(128)) * (gain * (1 + across + down))
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


def sensor(picture: np.ndarray, blur: float, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Return ``picture`` blurred (standard deviation in pixels) and with grey Gaussian noise (in levels)."""
    blurred = cv2.GaussianBlur(picture, (0, 0), blur) if blur > 0 else picture
    grain = rng.standard_normal((*picture.shape[:2], 1), np.float32) * np.float32(noise)
    return np.clip(np.rint(blurred + grain), 0, 255).astype(np.uint8)


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    """Return ``picture`` as the bytes of a baseline JPEG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=2, optimize=False)
    return file.getvalue()


def decode(content: bytes) -> Image.Image:
    """Return the RGB picture in the bytes of an image file that :func:`jpeg` made."""
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB")
