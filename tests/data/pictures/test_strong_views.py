import numpy as np
import pytest

from niphash.data.pictures.strong_views import StrongView, slight_crop, square_crop
from niphash.errors import InputError
from tests.photos import real_photos

#: A view without chance in it but for the place: no turn, no tilt, no light to speak of.
STILL = {
    "rotation": 0,
    "tilt": 0,
    "background": 0,
    "overlay": 0,
    "grey": 0,
    "blur": 0,
    "noise": 0,
    "quality": 95,
}


@pytest.fixture(scope="module")
def photos() -> tuple[np.ndarray, np.ndarray]:
    first, second = real_photos()[:2]
    return np.asarray(first.resize((200, 150))), np.asarray(second.resize((180, 200)))


def view_of(photos: tuple[np.ndarray, np.ndarray], seed: int, side: int = 96, **options: float) -> np.ndarray:
    return StrongView(**options)(*photos, side, np.random.default_rng(seed))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1])


def test_a_view_depends_on_its_generator_alone(photos: tuple[np.ndarray, np.ndarray]) -> None:
    first, again, other = view_of(photos, 1), view_of(photos, 1), view_of(photos, 2)
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_small_photo_lies_inside_and_a_large_one_fills_the_view() -> None:
    """White photos on one plain colour: the share of bright pixels is the photo's."""
    white, other = np.full((150, 150, 3), 255, np.uint8), np.zeros((100, 100, 3), np.uint8)
    shares = {}
    for zoom in (0.5, 2.0):
        options = {**STILL, "background": 1, "least_zoom": zoom, "most_zoom": zoom}
        views = [view_of((white, other), seed, **options) for seed in range(5)]
        shares[zoom] = [float((view.mean(2) > 90).mean()) for view in views]
    assert shares[0.5] == pytest.approx([0.25] * 5, abs=0.03)
    assert shares[2.0] == [1.0] * 5


def test_a_view_shows_its_photo_and_what_lies_around_the_other(photos: tuple[np.ndarray, np.ndarray]) -> None:
    photo, other = photos
    square = photo[:, 25:175]
    whole = view_of((square, other), 0, 150, **STILL, least_zoom=1, most_zoom=1)
    assert correlation(whole, square) > 0.9
    assert abs(correlation(whole, other[:150, :150])) < 0.5


def test_no_colour_where_the_chance_is_one(photos: tuple[np.ndarray, np.ndarray]) -> None:
    grey = view_of(photos, 0, **{**STILL, "grey": 1, "background": 1}).astype(int)
    coloured = view_of(photos, 0, **{**STILL, "background": 1}).astype(int)
    assert np.ptp(grey, axis=2).mean() < 3 < np.ptp(coloured, axis=2).mean()


def test_overlays_change_a_part_of_the_view(photos: tuple[np.ndarray, np.ndarray]) -> None:
    changed = []
    for seed in range(6):
        options = {**STILL, "least_zoom": 1, "most_zoom": 1}
        rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
        plain = StrongView(**options)._placed(photos[0], np.zeros((96, 96, 3), np.uint8), rng)
        laid = plain.copy()
        from niphash.data.pictures.strong_views import _lay_piece, _lay_text

        _lay_piece(laid, photos[1], same)
        _lay_text(laid, same)
        changed.append(float((laid != plain).any(2).mean()))
    assert min(changed) > 0.03
    assert max(changed) < 0.45


def test_thin_and_tiny_pictures_give_views_too() -> None:
    rng = np.random.default_rng(0)
    for shape in ((32, 900, 3), (32, 32, 3), (900, 32, 3)):
        picture = rng.integers(0, 256, shape, dtype=np.uint8)
        assert view_of((picture, picture), 0).shape == (96, 96, 3)
        assert square_crop(picture, 40, rng).shape == (40, 40, 3)
        cropped = slight_crop(picture, 0.8, rng)
        assert all(0.79 * a <= b <= a for a, b in zip(shape[:2], cropped.shape[:2], strict=True))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("background", 1.5), ("overlay", -0.1), ("grey", "often"), ("least_zoom", 0), ("most_zoom", 99)],
        *[("rotation", 181), ("tilt", 80), ("blur", -1), ("noise", float("nan")), ("quality", 0)],
        ("least_zoom", 3.0),
    ],
)
def test_bad_options_are_named(option: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"^contrastive\.views\.{option}="):
        StrongView(**{option: value})  # type: ignore[arg-type]
