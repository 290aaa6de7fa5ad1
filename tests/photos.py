"""Real photographs for tests, cut from those in the scikit-image wheel."""

from pathlib import Path

import numpy as np
from PIL import Image


def real_photos() -> list[Image.Image]:
    """Return some photographs of the scikit-image wheel, RGB."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    names = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png", "brick.png")
    return [Image.open(folder / name).convert("RGB") for name in names]


def write_objects(root: Path, objects: int, views: int, side: int = 160) -> Path:
    """Write sub-folders of overlapping crops of real photographs, one an object; return ``root``."""
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
