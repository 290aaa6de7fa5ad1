"""Fixtures shared by all rooms."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photos, ground truth and weights beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real photos, ground truth and weights), which is not here")
    return SHARED


def real_photos() -> list[Image.Image]:
    """Return some photographs of the scikit-image wheel, RGB."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    names = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png", "brick.png")
    return [Image.open(folder / name).convert("RGB") for name in names]


def write_objects(root: Path, objects: int, views: int, side: int = 160) -> Path:
    """Write ``objects`` sub-folders of ``views`` overlapping crops of real photographs each; return ``root``."""
    photos = real_photos()
    rng = np.random.default_rng(0)
    for number in range(objects):
        photo = photos[number % len(photos)]
        left = int(rng.integers(0, photo.width - side - 20))
        top = int(rng.integers(0, photo.height - side - 20))
        folder = root / f"object{number:02d}"
        folder.mkdir(parents=True)
        for view in range(views):
            dx, dy = rng.integers(0, 20, 2)
            box = (left + dx, top + dy, left + dx + side, top + dy + side)
            photo.crop(box).rotate(5 * view).save(folder / f"view{view}.jpg", quality=90)
    return root


@pytest.fixture(scope="session")
def object_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled folder: 12 objects (sub-folders) of 3 views each, cut from real photographs."""
    return write_objects(tmp_path_factory.mktemp("objects") / "photos", objects=12, views=3)


@pytest.fixture
def make_objects(tmp_path: Path) -> Callable[[int, int], Path]:
    """A function that writes a labelled folder of its own: ``make_objects(objects, views)``."""
    return lambda objects, views: write_objects(tmp_path / "photos", objects, views)
