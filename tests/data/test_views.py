"""Views change the picture as they say, and the same way every time."""

import numpy as np
import pytest
from PIL import Image

from niphash.data.images import ImageSet, as_image_set
from niphash.data.views import MEAN_PIXEL, Chain, RandomView, RotatedDisc, Scaled, query_views
from niphash.errors import InputError
from tests.photos import real_photos


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return real_photos()[0].resize((320, 240))


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean())


def test_a_disc_shows_the_centre_and_the_mean_pixel(photo: Image.Image):
    disc = RotatedDisc(0)(photo, 0)
    assert disc.size == (240, 240)
    assert disc.getpixel((1, 1)) == MEAN_PIXEL
    assert disc.getpixel((120, 120)) == photo.getpixel((160, 120))


def test_every_angle_shows_the_same_disc(photo: Image.Image):
    upright = RotatedDisc(0)(photo, 0)
    for quarter, transpose in ((90, Image.Transpose.ROTATE_90), (180, Image.Transpose.ROTATE_180)):
        assert difference(RotatedDisc(quarter)(photo, 0), upright.transpose(transpose)) < 3
    turned_back = RotatedDisc(-30)(RotatedDisc(30)(photo, 0), 0)
    assert difference(turned_back, upright) < 8
    assert difference(RotatedDisc(30)(photo, 0), upright) > 20


def test_scaling_shrinks_and_never_enlarges(photo: Image.Image):
    assert Scaled(0.25)(photo, 0).size == (160, 120)
    assert Scaled(0.5)(photo, 0).size == photo.size
    small = Scaled(0.125)(photo, 0)
    box = photo.resize(small.size, Image.Resampling.BOX)
    assert difference(small, box) < difference(photo.resize(small.size, Image.Resampling.NEAREST), box)


def test_a_random_view_is_determined_by_seed_copy_and_number(photo: Image.Image):
    view = RandomView(seed=1, copy=0)
    assert difference(view(photo, 3), view(photo, 3)) == 0
    for other in (RandomView(seed=2, copy=0)(photo, 3), RandomView(seed=1, copy=1)(photo, 3), view(photo, 4)):
        assert other.size != view(photo, 3).size or difference(other, view(photo, 3)) > 0
    assert RandomView(seed=1, copy=1).key != view.key


def test_a_subset_keeps_its_random_views(photo: Image.Image):
    images = as_image_set([photo] * 3).with_view(RandomView(seed=0, copy=0))
    assert difference(images.image(2), images.subset([2]).image(0)) == 0
    assert images.checksum(2) == images.subset([2]).checksum(0) != images.checksum(1)


def test_query_views(photo: Image.Image):
    assert query_views(None, None) is None
    both = query_views(90, 0.25)
    assert isinstance(both, Chain)
    assert both(photo, 0).size == (160, 160)
    images = ImageSet(("a",), (photo,))
    assert images.with_view(both).checksum(0) != images.checksum(0)


def test_a_ratio_of_nothing_is_refused():
    with pytest.raises(InputError, match="scale_query"):
        query_views(None, 0)
