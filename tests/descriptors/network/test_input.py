"""How photos are laid on a network's input."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from niphash.descriptors.network.input import MEAN_PIXEL, check_mode, lay_out
from niphash.errors import InputError


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(data.coffee())  # 600 x 400


def quarters(colours=((255, 0, 0), (0, 255, 0), (0, 0, 255))) -> Image.Image:
    """A 90 x 30 picture: a red, a green and a blue square side by side."""
    return Image.fromarray(np.concatenate([np.full((30, 30, 3), c, np.uint8) for c in colours], 1))


def test_crop_keeps_the_central_square():
    laid = lay_out(quarters(), 20, "crop")
    assert laid.shape == (20, 20, 3)
    assert (laid == (0, 255, 0)).all()


def test_squash_keeps_the_whole_picture():
    laid = lay_out(quarters(), 30, "squash")
    assert laid.shape == (30, 30, 3)
    assert laid[15, 2].tolist() == [255, 0, 0]
    assert laid[15, 27].tolist() == [0, 0, 255]


def test_pad_surrounds_with_the_mean_pixel():
    laid = lay_out(quarters(), 90, "pad")
    assert laid.shape == (90, 90, 3)
    assert (laid[:30] == MEAN_PIXEL).all()
    assert (laid[60:] == MEAN_PIXEL).all()
    np.testing.assert_array_equal(laid[30:60], np.asarray(quarters()))


def test_aspect_keeps_the_shape(photo):
    assert lay_out(photo, 300, "aspect").shape == (200, 300, 3)
    assert lay_out(photo.rotate(90, expand=True), 300, "aspect").shape == (300, 200, 3)


def test_a_canvas_is_larger_only_where_the_photo_has_the_pixels(photo):
    assert lay_out(photo, 100, "crop", zoom=2).shape == (200, 200, 3)
    assert lay_out(photo, 300, "crop", zoom=2).shape == (400, 400, 3)
    assert lay_out(photo, 500, "crop", zoom=2).shape == (500, 500, 3)


def test_shrinking_is_anti_aliased():
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (400, 200))).convert("RGB")
    laid = lay_out(stripes, 50, "squash")
    assert np.abs(laid[:, 2:-2].astype(int) - 127).max() <= 3


def test_a_wrong_mode_is_named_with_the_right_ones():
    with pytest.raises(InputError, match="crop, squash, pad, aspect"):
        check_mode("stretch")
