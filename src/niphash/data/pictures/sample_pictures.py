"""What the embedded sample is made of: cuts of photographs, and the pictures drawn from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from niphash.data.pictures import rendering
from niphash.errors import InputError

#: Which photograph serves which purpose (package, path in it). No photograph serves two.
OBJECT_PHOTOS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/coffee.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("skimage", "data/coins.png"),
    ("skimage", "data/camera.png"),
)
CLUTTER_PHOTOS = (
    ("skimage", "data/moon.png"),
    ("skimage", "data/grass.png"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/retina.jpg"),
    ("skimage", "data/cell.png"),
)
FIT_PHOTOS = (
    ("skimage", "data/chelsea.png"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/brick.png"),
    ("skimage", "data/gravel.png"),
    ("skimage", "data/page.png"),
)

OBJECT_SIZES = ((116, 92), (92, 116), (104, 104))
CLUTTER_SIZES = ((96, 80), (80, 96), (128, 104), (104, 128), (160, 160), (220, 180))
FIT_SIZES = (*OBJECT_SIZES, (160, 128), (128, 160), (200, 200))
OBJECT_TEXTURE = 1.8  # grey levels a pixel, see rendering.textured_rects
CLUTTER_TEXTURE = 1.2
CLUTTER_RECTS = 40  # cuts of one photograph, which may overlap one another
FIT_RECTS = 60

SIDE = 320  # longer side of a clean picture, pixels
CLEAN_QUALITY = 95  # of its JPEG file
SCENE_SIZE = (320, 240)  # of a fit picture that is a part of a photograph as it is, pixels
SCENE_FIT = 0.4  # the share of those among the fit pictures

# How a casual photo is taken: most with care, a few without (from, to).
TILT = (2.0, 45.0)  # out of the picture's plane, about either axis, degrees
BLUR = (0.1, 3.5)  # standard deviation, pixels
NOISE = (0.0, 10.0)  # standard deviation, grey levels
QUALITY = (94, 60)  # of the JPEG file
FRAME = (0.7, 1.5)  # sides of the picture over those of the object's bounding box, give or take 0.07
CLUTTER = (0.0, 6.0)  # flat things that lie about the object
DEFOCUS = (6.0, 2.0)  # of the background, standard deviation, pixels
CARE = 10  # carelessness is a uniform number to this power
NEARNESS = 8  # the missing part of the scale is half a uniform number to this power


@dataclass(frozen=True)
class Patches:
    """What the pictures are made of, uint8 arrays [H, W, 3].

    Attributes:
        objects: The flat objects, :data:`SIDE` pixels long.
        clutter: Cuts of other photographs: distractors, backgrounds, and what lies about an object.
        fit: Cuts of the fit photographs.
        scenes: The fit photographs, whole.
    """

    objects: list[np.ndarray]
    clutter: list[np.ndarray]
    fit: list[np.ndarray]
    scenes: list[np.ndarray]


def cut_patches(objects: int, seed: int) -> Patches:
    """Cut what the pictures are made of.

    Raises:
        InputError: fewer than ``objects`` disjoint textured objects were found.
    """
    rng = np.random.default_rng([seed, 0])
    photos = [read_photo(*photo) for photo in OBJECT_PHOTOS]
    room = [rendering.textured_rects(photo, OBJECT_SIZES, objects, OBJECT_TEXTURE, rng) for photo in photos]
    chosen = _share_evenly(room, objects)
    if sum(map(len, chosen)) < objects:
        raise InputError(
            f"data.objects={objects}: the photographs have room for {sum(map(len, room))}; ask for fewer"
        )
    cuts = [rendering.cut(p, rect) for p, rects in zip(photos, chosen, strict=True) for rect in rects]
    scenes = [read_photo(*photo) for photo in FIT_PHOTOS]
    others = [read_photo(*photo) for photo in CLUTTER_PHOTOS]
    return Patches(
        objects=[rendering.enlarge(cut, SIDE) for cut in cuts],
        clutter=_cut_freely(others, CLUTTER_SIZES, CLUTTER_RECTS, rng),
        fit=_cut_freely(scenes, FIT_SIZES, FIT_RECTS, rng),
        scenes=scenes,
    )


def _share_evenly(room: Sequence[list[rendering.Rect]], count: int) -> list[list[rendering.Rect]]:
    """Take one rectangle of each photo in turn until there are ``count``."""
    chosen: list[list[rendering.Rect]] = [[] for _ in room]
    for turn in range(max(map(len, room))):
        for rects, taken in zip(room, chosen, strict=True):
            if turn < len(rects) and sum(map(len, chosen)) < count:
                taken.append(rects[turn])
    return chosen


def _cut_freely(
    photos: Sequence[np.ndarray], sizes: Sequence[rendering.Size], count: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Cut at most ``count`` rectangles with some texture from each photo; they may overlap."""
    return [
        rendering.cut(photo, rect)
        for photo in photos
        for rect in rendering.textured_rects(photo, sizes, count, CLUTTER_TEXTURE, rng, disjoint=False)
    ]


def read_photo(package: str, name: str) -> np.ndarray:
    """Return a photograph that ``package`` ships, uint8 [H, W, 3]; nothing is imported or downloaded.

    Raises:
        InputError: this installation lacks the file.
    """
    spec = find_spec(package)
    path = Path(spec.origin).parent / name if spec is not None and spec.origin else Path(package, name)
    if not path.is_file():
        raise InputError(
            f"{path}: this photograph of {package} is missing; install the pinned {package} wheel anew"
        )
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def clean(picture: np.ndarray) -> bytes:
    """Return the catalogue picture of a flat object."""
    return rendering.jpeg(picture, CLEAN_QUALITY)


def view(picture: np.ndarray, clutter: Sequence[np.ndarray], rng: np.random.Generator) -> bytes:
    """Return a casual photo of a flat object on clutter, at any angle, at 0.5-1 of its clean scale."""
    carelessness = rng.random() ** CARE
    scale = 1 - 0.5 * rng.random() ** NEARNESS  # clean pictures are too smooth to alias at a half
    size = picture.shape[1::-1]
    homography = _random_pose(size, (0.0, 0.0), scale, _between(TILT, carelessness), rng)
    sides = _between(FRAME, carelessness) + rng.uniform(-0.07, 0.07, 2)
    homography, frame = rendering.frame(homography, size, sides, rng.uniform(0.3, 0.7, 2))
    scene = rendering.paste(_scene(clutter, frame, carelessness, rng), picture, homography)
    seen = rendering.sensor(
        rendering.light(scene, rng), _between(BLUR, carelessness), _between(NOISE, carelessness), rng
    )
    return rendering.jpeg(seen, round(_between(QUALITY, carelessness)))


def distractor(patches: Patches, index: int, rng: np.random.Generator) -> bytes:
    """Return distractor ``index``: each cut once as a clean picture, then casual photos of them."""
    cuts = patches.clutter
    picture = rendering.enlarge(cuts[index % len(cuts)], SIDE)
    return clean(picture) if index < len(cuts) else view(picture, cuts, rng)


def fit_picture(patches: Patches, index: int, rng: np.random.Generator) -> bytes:
    """Return fit picture ``index``: a part of a photograph as it is, or a cut, clean (once) or viewed."""
    if rng.random() < SCENE_FIT:
        return clean(_part(_one_of(patches.scenes, rng), rng))
    picture = rendering.enlarge(patches.fit[index % len(patches.fit)], SIDE)
    once = index < len(patches.fit) and rng.random() < 0.5
    return clean(picture) if once else view(picture, patches.fit, rng)


def _part(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a part of ``photo`` of :data:`SCENE_SIZE`, or what it has of that."""
    height, width = photo.shape[:2]
    wide, high = min(width, SCENE_SIZE[0]), min(height, SCENE_SIZE[1])
    left, top = int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1))
    return np.ascontiguousarray(photo[top : top + high, left : left + wide])


def _scene(
    clutter: Sequence[np.ndarray], size: rendering.Size, carelessness: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a background out of focus with a few flat things on it."""
    scene = rendering.backdrop(_one_of(clutter, rng), size, _between(DEFOCUS, carelessness), rng)
    for _ in range(int(_between(CLUTTER, carelessness) + rng.random())):
        patch = _one_of(clutter, rng)
        scale = rng.uniform(0.3, 0.6) * SIDE / max(patch.shape[:2])
        centre = (size[0] * rng.random(), size[1] * rng.random())
        tilt = _between(TILT, carelessness)
        scene = rendering.paste(scene, patch, _random_pose(patch.shape[1::-1], centre, scale, tilt, rng))
    return scene


def _random_pose(
    size: rendering.Size, centre: tuple[float, float], scale: float, tilt: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a homography to any angle, at most ``tilt`` degrees out of the plane about either axis."""
    x, y = np.deg2rad(rng.uniform(-tilt, tilt, 2))
    return rendering.pose(size, centre, scale, rng.uniform(0, 2 * np.pi), (float(x), float(y)))


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * share


def _one_of(patches: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    return patches[int(rng.integers(len(patches)))]
