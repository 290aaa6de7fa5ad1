"""The embedded sample: a small retrieval problem made from the photographs in two wheels, with no network."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock
from PIL import Image

from niphash.data import rendering
from niphash.data.dataset import DataSet
from niphash.data.images import ImageSet
from niphash.data.task import Relevance, RetrievalTask
from niphash.errors import InputError
from niphash.progress import track

VERSION = 1  # raise it with every change of what is drawn
STAMP = "sample.json"

#: Which photograph serves which purpose (package, path in it). No photograph serves two.
OBJECT_PHOTOS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/coins.png"),
    ("sklearn", "datasets/images/china.jpg"),
)
CLUTTER_PHOTOS = (
    ("skimage", "data/brick.png"),
    ("skimage", "data/grass.png"),
    ("skimage", "data/moon.png"),
)
FIT_PHOTOS = (
    ("skimage", "data/camera.png"),
    ("skimage", "data/cell.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/gravel.png"),
    ("skimage", "data/page.png"),
    ("skimage", "data/retina.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)

OBJECT_SIZES = ((132, 104), (104, 132), (116, 116))
CLUTTER_SIZES = ((96, 80), (80, 96), (128, 104), (104, 128), (160, 160), (220, 180))
FIT_SIZES = (*OBJECT_SIZES, (160, 128), (128, 160), (200, 200))
OBJECT_TEXTURE = 4.0  # grey levels a pixel, see rendering.textured_rects
CLUTTER_TEXTURE = 1.2
CLUTTER_RECTS = 40  # patches drawn from one photograph for clutter and for fitting
FIT_RECTS = 60

REFERENCE_SIDE = 224  # longer side of a clean picture, pixels
CLEAN_QUALITY = 95  # JPEG
CLEAN_DISTRACTORS, CLEAN_FIT = 0.7, 0.4  # the share of clean pictures among them
MAX_TILT = np.pi / 7  # out of the picture's plane, about either axis
MAX_CLUTTER = 2  # flat things that lie about the object
FRAME = (1.02, 1.25)  # sides of a casual photo over those of the object's bounding box
BLUR = (0.2, 0.6)  # standard deviation of the blur, pixels
NOISE = (0.0, 1.5)  # standard deviation of the noise, grey levels
QUALITY = (75, 96)  # of the JPEG file of a casual photo


@dataclass(frozen=True)
class Patches:
    """What is cut from the photographs: the flat objects, and what lies about them or is fitted on."""

    objects: list[np.ndarray]
    clutter: list[np.ndarray]
    fit: list[np.ndarray]


class SampleData(DataSet):
    """Flat objects cut from photographs, seen clean in the database and under random views as queries.

    Everything is drawn from ``seed`` (its own, so that every run has the same test set), each picture from
    its own stream; one seed, one version of this module and of the drawing libraries give the same bytes.

    Args:
        root: Where the pictures are kept; made at first use.
        seed: Draws the set.
        objects: Number of flat objects, each one clean picture in the database.
        views: Queries an object.
        distractors: Further database pictures, of nothing that is asked for.
        fit: Pictures to fit on, from photographs that the test does not use.
    """

    name = "sample"

    def __init__(
        self,
        root: Path | str,
        seed: int = 0,
        objects: int = 64,
        views: int = 5,
        distractors: int = 320,
        fit: int = 800,
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.counts = {
            "references": objects,
            "queries": objects * views,
            "distractors": distractors,
            "fit": fit,
        }
        for key, count in {
            "objects": objects,
            "views": views,
            "distractors": distractors,
            "fit": fit,
        }.items():
            if count < 1:
                raise InputError(f"data.{key}={count}: the sample needs at least one; give a positive number")
        self.views = views

    def prepare(self) -> None:
        """Draw the pictures unless they are there, unharmed, already.

        Raises:
            InputError: ``root`` holds something else, or the objects asked for do not fit the photographs.
        """
        if self._is_complete():
            return
        self.root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._beside("lock")):
            if not self._is_complete():  # another process may have drawn them while this one waited
                self._build()

    def task(self) -> RetrievalTask:
        """Return the references and distractors as database and the views as queries."""
        self.prepare()
        return RetrievalTask(
            name=self.name,
            protocol=(
                f"each of {self.counts['queries']} random views of {self.counts['references']} flat objects "
                "on clutter is a query, the one clean picture of its object is relevant, nothing is junk, "
                f"{self.counts['distractors']} distractors in the database, finite-sum AP"
            ),
            database=self._images("references") + self._images("distractors"),
            queries=self._images("queries"),
            relevance=tuple(Relevance(np.array([i // self.views])) for i in range(self.counts["queries"])),
        )

    def fit_set(self) -> ImageSet:
        """Return the pictures from photographs that neither database nor queries use."""
        self.prepare()
        return self._images("fit")

    def _images(self, kind: str) -> ImageSet:
        ids = tuple(_file_name(kind, i) for i in range(self.counts[kind]))
        return ImageSet(ids, tuple(self.root / i for i in ids))

    def _beside(self, purpose: str) -> Path:
        return self.root.with_name(f".{self.root.name}.{purpose}")

    def _identity(self) -> dict:
        """Everything that determines the pictures."""
        libraries = {name: version(name) for name in ("numpy", "pillow", "scikit-image", "scikit-learn")}
        return {
            "version": VERSION,
            "seed": self.seed,
            "counts": self.counts,
            "libraries": {**libraries, "opencv": cv2.__version__},
        }

    def _is_complete(self) -> bool:
        try:
            stamp = json.loads((self.root / STAMP).read_bytes())
            if stamp["identity"] != self._identity():
                return False
            return all(
                _checksum((self.root / name).read_bytes()) == sum_ for name, sum_ in stamp["blake2b"].items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def _build(self) -> None:
        if self.root.exists() and not (self.root / STAMP).is_file() and any(self.root.iterdir()):
            raise InputError(
                f"{self.root}: holds something other than the sample; point data.root elsewhere or empty it"
            )
        partial_, old = self._beside("partial"), self._beside("old")
        for left_over in (partial_, old):
            shutil.rmtree(left_over, ignore_errors=True)
        patches = cut_patches(self.counts["references"], self.seed)
        checksums = {}
        jobs = self._jobs(patches)
        with ThreadPoolExecutor(
            os.cpu_count()
        ) as pool:  # OpenCV and Pillow work outside the interpreter lock
            files = pool.map(lambda job: job[1](), jobs)
            for (name, _), content in zip(jobs, track(files, "draw the sample", len(jobs)), strict=True):
                path = partial_ / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                checksums[name] = _checksum(content)
        stamp = {"identity": self._identity(), "blake2b": checksums}
        (partial_ / STAMP).write_text(json.dumps(stamp, indent=1))
        if self.root.exists():
            self.root.rename(old)
        partial_.rename(self.root)
        shutil.rmtree(old, ignore_errors=True)

    def _jobs(self, patches: Patches) -> list[tuple[str, Callable[[], bytes]]]:
        """Name every file and how it is drawn; file ``i`` of a kind has a random stream of its own."""
        draw: dict[str, Callable[[int, np.random.Generator], bytes]] = {
            "references": lambda i, rng: clean(patches.objects[i]),
            "queries": lambda i, rng: view(patches.objects[i // self.views], patches.clutter, rng),
            "distractors": lambda i, rng: distractor(patches.clutter, rng),
            "fit": lambda i, rng: fit_picture(patches.fit, rng),
        }
        return [
            (_file_name(kind, i), partial(draw[kind], i, np.random.default_rng([self.seed, stream, i])))
            for stream, kind in enumerate(draw, start=1)
            for i in range(self.counts[kind])
        ]


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
    found: list[np.ndarray] = []
    clutter: list[np.ndarray] = []
    for photo, rects in zip(photos, chosen, strict=True):
        found += [rendering.cut(photo, rect) for rect in rects]
        free = rendering.textured_rects(
            photo, CLUTTER_SIZES, CLUTTER_RECTS, CLUTTER_TEXTURE, rng, taken=rects, disjoint=False
        )
        clutter += [rendering.cut(photo, rect) for rect in free]
    clutter += _cut_freely(CLUTTER_PHOTOS, CLUTTER_SIZES, CLUTTER_RECTS, rng)
    return Patches(found, clutter, _cut_freely(FIT_PHOTOS, FIT_SIZES, FIT_RECTS, rng))


def _share_evenly(room: Sequence[list[rendering.Rect]], count: int) -> list[list[rendering.Rect]]:
    """Take one rectangle of each photo in turn until there are ``count``."""
    chosen: list[list[rendering.Rect]] = [[] for _ in room]
    for turn in range(max(map(len, room))):
        for rects, taken in zip(room, chosen, strict=True):
            if turn < len(rects) and sum(map(len, chosen)) < count:
                taken.append(rects[turn])
    return chosen


def _cut_freely(
    photos: Sequence[tuple[str, str]], sizes: Sequence[rendering.Size], count: int, rng: np.random.Generator
) -> list[np.ndarray]:
    patches = []
    for package, name in photos:
        photo = read_photo(package, name)
        rects = rendering.textured_rects(photo, sizes, count, CLUTTER_TEXTURE, rng, disjoint=False)
        patches += [rendering.cut(photo, rect) for rect in rects]
    return patches


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


def clean(patch: np.ndarray) -> bytes:
    """Return the catalogue picture of a flat object."""
    return rendering.jpeg(rendering.enlarge(patch, REFERENCE_SIDE), CLEAN_QUALITY)


def view(patch: np.ndarray, clutter: Sequence[np.ndarray], rng: np.random.Generator) -> bytes:
    """Return a casual photo of a flat object on clutter, at any angle, at 0.5-1 of its clean scale."""
    size = patch.shape[1::-1]
    scale = rng.uniform(0.5, 1.0) * REFERENCE_SIDE / max(size)
    tilt = rng.uniform(-MAX_TILT, MAX_TILT, 2)
    homography = rendering.pose(size, (0, 0), scale, rng.uniform(0, 2 * np.pi), (tilt[0], tilt[1]))
    homography, frame = rendering.frame(homography, size, rng.uniform(*FRAME, 2), rng.random(2))
    return _photograph(rendering.paste(_scene(clutter, frame, rng), patch, homography), rng)


def distractor(clutter: Sequence[np.ndarray], rng: np.random.Generator) -> bytes:
    """Return a picture of something that is not asked for, clean or a casual photo."""
    patch = clutter[int(rng.integers(len(clutter)))]
    return clean(patch) if rng.random() < CLEAN_DISTRACTORS else view(patch, clutter, rng)


def fit_picture(patches: Sequence[np.ndarray], rng: np.random.Generator) -> bytes:
    """Return a picture like those of the test, clean or a view, of other things."""
    patch = patches[int(rng.integers(len(patches)))]
    return clean(patch) if rng.random() < CLEAN_FIT else view(patch, patches, rng)


def _scene(clutter: Sequence[np.ndarray], size: rendering.Size, rng: np.random.Generator) -> np.ndarray:
    """Return a background out of focus with a few flat things on it."""
    scene = rendering.backdrop(clutter[int(rng.integers(len(clutter)))], size, rng.uniform(2.0, 5.0), rng)
    for _ in range(rng.integers(MAX_CLUTTER + 1)):
        patch = clutter[int(rng.integers(len(clutter)))]
        scale = rng.uniform(0.3, 0.6) * REFERENCE_SIDE / max(patch.shape[:2])
        tilt = rng.uniform(-MAX_TILT, MAX_TILT, 2)
        centre = (size[0] * rng.random(), size[1] * rng.random())
        angle = rng.uniform(0, 2 * np.pi)
        scene = rendering.paste(
            scene, patch, rendering.pose(patch.shape[1::-1], centre, scale, angle, (tilt[0], tilt[1]))
        )
    return scene


def _photograph(scene: np.ndarray, rng: np.random.Generator) -> bytes:
    seen = rendering.sensor(rendering.light(scene, rng), rng.uniform(*BLUR), rng.uniform(*NOISE), rng)
    return rendering.jpeg(seen, int(rng.integers(*QUALITY)))


def _file_name(kind: str, index: int) -> str:
    return f"{kind}/{index:04d}.jpg"


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
