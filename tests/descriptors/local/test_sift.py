"""Local descriptors against naive loops."""

import cv2
import numpy as np
import pytest
from PIL import Image

from niphash.descriptors.local.sift import SiftDense, SiftDoG, dense_sift, grey, rootsift
from niphash.errors import InputError


def texture(height: int = 96, width: int = 128, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return Image.fromarray(cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)).convert(
        "RGB"
    )


def naive_dense_descriptor(pixels: np.ndarray, cx: int, cy: int, size: int) -> np.ndarray:
    """One dense SIFT descriptor, pixel by pixel, from the definition."""
    padded = np.pad(pixels, 1, mode="reflect").astype(np.float64)
    dx, dy = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2, (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    bins = np.zeros((4, 4, 8))
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            magnitude = np.hypot(dx[y, x], dy[y, x])
            angle = np.arctan2(dy[y, x], dx[y, x]) % (2 * np.pi) * 8 / (2 * np.pi)
            low = int(angle)
            for orientation, share in ((low % 8, 1 - angle + low), ((low + 1) % 8, angle - low)):
                for i in range(4):
                    for j in range(4):
                        wy = max(0, 1 - abs(y - (cy + (i - 1.5) * size)) / size)
                        wx = max(0, 1 - abs(x - (cx + (j - 1.5) * size)) / size)
                        bins[i, j, orientation] += magnitude * share * wy * wx
    for i in range(4):
        for j in range(4):
            bins[i, j] *= np.exp(-((i - 1.5) ** 2 + (j - 1.5) ** 2) / 8)
    unit = np.minimum(bins.ravel() / np.linalg.norm(bins), 0.2)
    return unit / np.linalg.norm(unit)


def test_dense_sift_equals_a_loop_over_pixels():
    pixels = np.asarray(texture(48, 40).convert("L"), np.float32) / 255
    found = dense_sift(pixels, step=8, bin_size=4, contrast=0.0)
    # bin 4 needs less smoothing than a camera gives, so the gradients are those of the pixels themselves
    blurred = cv2.GaussianBlur(pixels, (0, 0), np.sqrt(max((4 / 6) ** 2 - 0.25, 0)))
    for (x, y), descriptor in zip(found.positions, found.descriptors, strict=True):
        if 10 <= x <= 30 and 10 <= y <= 38:  # bins that do not reach over the border
            np.testing.assert_allclose(
                descriptor, naive_dense_descriptor(blurred, int(x), int(y), 4), atol=2e-3
            )
    assert found.descriptors.shape == (len(found.positions), 128)


def test_dense_grid_has_the_step_and_stays_inside():
    positions = SiftDense(step=4, bin_sizes=[4]).extract(texture(96, 128)).positions
    xs, ys = np.unique(positions[:, 0]), np.unique(positions[:, 1])
    assert set(np.diff(xs)) == {4}
    assert set(np.diff(ys)) == {4}
    assert xs.min() == 8
    assert ys.min() == 8
    assert xs.max() <= 120
    assert ys.max() <= 88


def test_multiscale_is_the_scales_together():
    image = texture()
    both = SiftDense(bin_sizes=[4, 8]).extract(image)
    each = [SiftDense(bin_sizes=[size]).extract(image) for size in (4, 8)]
    np.testing.assert_array_equal(both.descriptors, np.concatenate([e.descriptors for e in each]))
    np.testing.assert_array_equal(both.positions, np.concatenate([e.positions for e in each]))


def test_dog_equals_opencv_on_the_same_pixels():
    image = texture(240, 320)
    found = SiftDoG(peak=0, rootsift=False).extract(image)
    points, descriptors = cv2.SIFT.create(contrastThreshold=0, edgeThreshold=10).detectAndCompute(
        np.asarray(image.convert("L")), None
    )
    assert len(points) > 50
    order, expected = np.lexsort(found.descriptors.T), np.lexsort(descriptors.T)
    np.testing.assert_array_equal(found.descriptors[order], descriptors[expected])


def test_dog_limit_keeps_the_strongest():
    image = texture(240, 320)
    assert len(SiftDoG(limit=20).extract(image).descriptors) == 20
    assert len(SiftDoG(limit=20).extract(image).positions) == 20
    assert len(SiftDoG(peak=0.1).extract(image).descriptors) < len(SiftDoG().extract(image).descriptors)


def opencv_points(image: Image.Image, **options: float) -> list[cv2.KeyPoint]:
    return cv2.SIFT.create(edgeThreshold=10, **options).detect(np.asarray(image.convert("L")), None)


def test_dog_peak_is_three_times_the_contrast_of_an_extremum():
    contrasts = np.array([point.response for point in opencv_points(texture(240, 320), contrastThreshold=0)])
    found = SiftDoG(peak=0.06).extract(texture(240, 320))
    assert 0 < len(found.positions) == (3 * contrasts >= 0.06).sum() < len(contrasts)


def test_dog_relative_peak_follows_the_contrast_of_the_photo():
    image = texture(240, 320)
    dull = image.point(lambda level: 100 + level // 4)
    deviation = np.asarray(image.convert("L")).std() / 255
    relative = SiftDoG(peak=0, relative_peak=0.3, rootsift=False).extract(image)
    absolute = SiftDoG(peak=0.3 * deviation, rootsift=False).extract(image)
    np.testing.assert_array_equal(relative.positions, absolute.positions)
    assert 0 < len(relative.positions) < len(SiftDoG(peak=0).extract(image).positions)
    kept = len(SiftDoG(peak=0, relative_peak=0.3).extract(dull).positions) / len(relative.positions)
    assert 0.7 < kept < 1.3  # four grey levels became one
    assert len(SiftDoG(peak=0.3 * deviation).extract(dull).positions) < 0.3 * len(relative.positions)


def test_dog_share_and_smallest_keep_the_strongest_of_the_large_points():
    image = texture(240, 320)
    points = [point for point in opencv_points(image, contrastThreshold=0) if point.size >= 4]
    points.sort(key=lambda point: -point.response)
    for limit, count in ((4000, -(-len(points) // 4)), (10, 10)):
        found = SiftDoG(peak=0, share=0.25, smallest=4, limit=limit).extract(image)
        assert {tuple(place) for place in found.positions.tolist()} == {p.pt for p in points[:count]}
        assert len(found.descriptors) == count < len(points)
    everything, same = (SiftDoG(peak=0, smallest=s, rootsift=False).extract(image) for s in (0, 1e-9))
    order, again = (np.lexsort(found.descriptors.T) for found in (everything, same))
    np.testing.assert_array_equal(everything.descriptors[order], same.descriptors[again])


def test_rootsift_is_the_hellinger_map():
    raw = SiftDoG(rootsift=False).extract(texture()).descriptors
    mapped = SiftDoG().extract(texture()).descriptors
    np.testing.assert_allclose(mapped, np.sqrt(raw / raw.sum(1, keepdims=True)), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(rootsift(np.zeros((1, 128), np.float32)), 0)


@pytest.mark.parametrize("backbone", [SiftDoG(), SiftDense(), SiftDense(bin_sizes=[4, 8, 12, 16])])
@pytest.mark.parametrize("size", [(200, 150), (1, 1), (3, 700), (17, 16)])
def test_a_blank_or_tiny_image_has_no_descriptors(backbone, size):
    found = backbone.extract(Image.new("RGB", size, (90, 90, 90)))
    assert found.descriptors.shape == (0, 128)
    assert found.descriptors.dtype == np.float32
    assert found.positions.shape == (0, 2)


@pytest.mark.parametrize(
    ("size", "enlarge", "expected"),
    [
        ((1280, 960), False, (480, 640)),
        ((320, 240), False, (240, 320)),
        ((320, 240), True, (480, 640)),
        ((2000, 1), False, (1, 640)),
    ],
)
def test_longer_side(size, enlarge, expected):
    assert grey(Image.new("RGB", size), 640, enlarge).shape == expected


def test_wrong_options_are_named():
    for make in (
        lambda: SiftDoG(longer_side=0),
        lambda: SiftDoG(peak=-1),
        lambda: SiftDoG(relative_peak=-1),
        lambda: SiftDoG(smallest=-1),
        lambda: SiftDoG(share=0),
        lambda: SiftDoG(share=1.5),
        lambda: SiftDense(bin_sizes=[]),
        lambda: SiftDense(step=0),
    ):
        with pytest.raises(InputError, match=r"backbone\."):
            make()
