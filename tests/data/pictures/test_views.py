from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from niphash.data.images import ImageSet
from niphash.data.pictures.sample_pictures import read_photo
from niphash.data.pictures.views import (
    FULL_SIDE,
    MEAN_PIXEL,
    Composed,
    RandomView,
    RotatedDisc,
    Scaled,
    query_views,
)
from niphash.errors import InputError


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(read_photo("skimage", "data/chelsea.png"))  # 451 x 300


def disc(side: int, radius: float) -> np.ndarray:
    centre = (side - 1) / 2
    return np.array(
        [[(x - centre) ** 2 + (y - centre) ** 2 < radius**2 for x in range(side)] for y in range(side)]
    )


def test_disc_at_zero_keeps_the_inside_and_pads_with_the_mean(photo: Image.Image) -> None:
    seen = np.asarray(RotatedDisc(0)(photo, 0)).astype(int)
    square = np.asarray(photo).astype(int)[:, 75:375]
    assert seen.shape == (300, 300, 3)
    assert np.array_equal(seen[disc(300, 149)], square[disc(300, 149)])
    assert (seen[~disc(300, 151)] == MEAN_PIXEL).all()


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_of_the_disc_only_move_pixels(photo: Image.Image, quarters: int) -> None:
    upright = np.asarray(RotatedDisc(0)(photo, 0)).astype(int)
    turned = np.asarray(RotatedDisc(90 * quarters)(photo, 0)).astype(int)
    assert np.abs(np.rot90(upright, quarters) - turned).max() <= 2


def test_disc_agrees_with_pillow_at_any_angle_and_a_full_turn_is_none(photo: Image.Image) -> None:
    seen = np.asarray(RotatedDisc(37)(photo, 0)).astype(float)
    square = photo.crop((75, 0, 375, 300)).rotate(37, Image.Resampling.BICUBIC)
    inside = disc(300, 147)
    assert np.abs(seen - np.asarray(square))[inside].mean() < 1.0
    assert RotatedDisc(360).key == RotatedDisc(0).key
    assert np.array_equal(np.asarray(RotatedDisc(-10)(photo, 0)), np.asarray(RotatedDisc(350)(photo, 0)))


@pytest.mark.parametrize("ratio", [0.75, 0.375, 0.125])
def test_scaled_has_the_asked_side_and_keeps_the_aspect(photo: Image.Image, ratio: float) -> None:
    seen = Scaled(ratio)(photo, 0)
    assert max(seen.size) == round(ratio * FULL_SIDE)
    assert seen.width / seen.height == pytest.approx(451 / 300, rel=0.02)


def test_scaled_is_anti_aliased() -> None:
    """A pattern too fine for the small picture becomes an even grey; taking every n-th pixel would not."""
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    small = np.asarray(Scaled(0.2)(Image.fromarray(stripes), 0)).astype(float)
    assert small.std() < 6
    assert small.mean() == pytest.approx(127.5, abs=3)


def test_random_views_depend_on_seed_copy_and_number_alone(photo: Image.Image) -> None:
    def pixels(seed: int, copy: int, index: int) -> bytes:
        return RandomView(seed, copy)(photo, index).tobytes()

    assert pixels(0, 0, 3) == pixels(0, 0, 3)
    assert len({pixels(0, 0, 3), pixels(1, 0, 3), pixels(0, 1, 3), pixels(0, 0, 4)}) == 4


def structure(image: Image.Image) -> np.ndarray:
    """Keep what light, blur and noise leave alone: details of 2 to 10 pixels."""
    grey = np.asarray(image.convert("L")).astype(np.float32)
    return (cv2.GaussianBlur(grey, (0, 0), 2) - cv2.GaussianBlur(grey, (0, 0), 10)).ravel()


def test_random_view_without_change_of_viewpoint_is_the_photo(photo: Image.Image) -> None:
    for index in range(6):
        seen = RandomView(0, 0, rotation=0, scale=1, tilt=0, crop=1)(photo, index)
        assert seen.size == photo.size
        assert np.corrcoef(structure(seen), structure(photo))[0, 1] > 0.85


def test_views_take_tiny_and_grey_pictures() -> None:
    dot = Image.fromarray(np.full((1, 3), 90, np.uint8))
    for view in (RotatedDisc(45), Scaled(0.01), RandomView(0, 0)):
        assert view(dot, 0).mode == "RGB"
        assert min(view(dot, 0).size) >= 1


def test_query_views() -> None:
    assert query_views(None, None) is None
    assert query_views(0, None) == RotatedDisc(0)
    assert query_views(None, 0.5) == Scaled(0.5)
    both = query_views(90, 0.5)
    assert both == Composed((RotatedDisc(90), Scaled(0.5)))
    assert both.key == "disc(90)+scaled(0.5)"
    with pytest.raises(InputError, match=r"views\.rotate_query=nan"):
        query_views(float("nan"), None)
    for ratio in (0, -1, 5, float("nan")):
        with pytest.raises(InputError, match=r"views\.scale_query"):
            query_views(None, ratio)


def test_image_set_shows_the_view_and_its_checksum_knows_it(tmp_path: Path, photo: Image.Image) -> None:
    photo.save(tmp_path / "cat.png")
    plain = ImageSet.from_folder(tmp_path)
    seen = plain.with_view(query_views(90, 0.25))
    assert seen.image(0).size == (160, 160)
    sums = {plain.checksum(0), seen.checksum(0), plain.with_view(RandomView(0, 0)).checksum(0)}
    assert len(sums | {plain.with_view(RandomView(0, 1)).checksum(0)}) == 4
