"""Photos and views inside a graph against Pillow and OpenCV."""

import numpy as np
import pytest
import torch
from PIL import Image

from niphash.descriptors.network.input import lay_out
from niphash.descriptors.network.nip import NIP
from niphash.descriptors.network.pooling import Mean
from niphash.export.photo import Layout, Views
from tests.photos import real_photos

#: Width and height: larger and smaller than the input, upright and wide, odd, thin, reduced by blocks first.
SHAPES = [(300, 236), (236, 300), (128, 192), (97, 64), (512, 9), (501, 400)]


def photo(width: int, height: int, number: int = 0) -> Image.Image:
    return real_photos()[number].resize((width, height))


@pytest.mark.parametrize("mode", ["crop", "squash", "pad"])
@pytest.mark.parametrize("zoom", [1.0, 2.0])
def test_a_photo_is_laid_on_the_input_as_pillow_does(mode: str, zoom: float):
    layout = Layout(64, mode, zoom)
    for width, height in SHAPES:
        image = photo(width, height)
        expected = lay_out(image, 64, mode, zoom).astype(float)
        canvas = layout(torch.from_numpy(np.array(image)))
        side = int(canvas.side)
        assert expected.shape == (side, side, 3)
        difference = np.abs(canvas.pixels[:, :side, :side].permute(1, 2, 0).numpy() - expected)
        blocks = min(width, height) >= 6 * 64 * zoom or (mode != "crop" and max(width, height) >= 6 * 64)
        # Pillow may begin with either axis, which rounds in another order where the two are resized apart
        exact = not blocks and (mode != "squash" or width >= height)
        assert difference.max() <= (0 if exact else 1), (width, height)


@pytest.mark.parametrize(
    "pooling",
    [
        Mean(),
        NIP(rotations=5, scales=3),
        NIP([["rotation", "max"], ["flip", "mean"], ["scale", "rms"]], rotations=4, scales=2),
        NIP([["translation", "rms"], ["scale", "mean"]], scales=3, smallest=0.25),
        NIP([["translation", "max"], ["rotation", "rms"]], rotations=7),
    ],
    ids=["mean", "nip", "flip", "area", "rotation"],
)
def test_views_are_those_that_opencv_makes(pooling):
    layout, views = Layout(64, "crop", pooling.zoom), Views(pooling, 64, round(64 * pooling.zoom))
    for number, (width, height) in enumerate([(300, 236), (70, 90), (60, 60)]):
        image = photo(width, height, number)
        expected = pooling.views(lay_out(image, 64, "crop", pooling.zoom), (64, 64), 0, pooling.orbit_size)
        canvas = layout(torch.from_numpy(np.array(image)))
        found = torch.cat([views(canvas, chunk) for chunk in views.chunks()]).permute(0, 2, 3, 1).numpy()
        assert found.shape == expected.shape
        difference = np.abs(found - expected)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01
