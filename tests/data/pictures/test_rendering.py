import cv2
import numpy as np
import pytest

from niphash.data.pictures import rendering
from niphash.data.pictures.sample_pictures import read_photo


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return read_photo("skimage", "data/astronaut.png")


def pixels(rect: rendering.Rect) -> set[tuple[int, int]]:
    left, top, width, height = rect
    return {(x, y) for x in range(left, left + width) for y in range(top, top + height)}


def test_overlap_is_a_shared_pixel() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        a, b = ((*map(int, rng.integers(0, 8, 2)), *map(int, rng.integers(1, 5, 2))) for _ in range(2))
        assert rendering.overlap(a, b) == bool(pixels(a) & pixels(b))


def test_textured_rects_share_no_pixel_and_spare_what_is_taken(photo: np.ndarray) -> None:
    taken = [(0, 0, 256, 512)]
    rects = rendering.textured_rects(photo, [(60, 40), (40, 60)], 20, 2.0, np.random.default_rng(0), taken)
    assert len(rects) >= 8
    covered = [pixels(rect) for rect in rects]
    assert len(set().union(*covered)) == sum(map(len, covered)) == 2400 * len(rects)
    assert all(
        left >= 256 and left + width <= 512 and top + height <= 512 for left, top, width, height in rects
    )


def test_textured_rects_have_texture_in_each_quarter(photo: np.ndarray) -> None:
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(float)
    padded = np.pad(grey, 1, mode="reflect")
    smooth_y = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    smooth_x = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    magnitude = np.hypot(smooth_y[:, 2:] - smooth_y[:, :-2], smooth_x[2:] - smooth_x[:-2]) / 8  # Sobel
    rects = rendering.textured_rects(photo, [(64, 64)], 30, 5.0, np.random.default_rng(1), disjoint=False)
    assert rects
    for left, top, _, _ in rects:
        quarters = magnitude[top : top + 64, left : left + 64].reshape(2, 32, 2, 32).mean((1, 3))
        assert quarters.min() >= 5.0 - 1e-3


def test_no_rect_where_there_is_no_texture() -> None:
    blank = np.full((100, 100, 3), 77, np.uint8)
    assert rendering.textured_rects(blank, [(10, 10)], 5, 0.1, np.random.default_rng(0)) == []
    assert rendering.textured_rects(blank, [(200, 10)], 5, 0.0, np.random.default_rng(0)) == []


def project(homography: np.ndarray, point: tuple[float, float]) -> np.ndarray:
    x, y, w = homography @ (*point, 1)
    return np.array([x / w, y / w])


def test_pose_without_tilt_is_a_similarity() -> None:
    homography = rendering.pose((81, 41), (100, 50), 0.5, np.pi / 2, (0, 0))
    assert project(homography, (40, 20)) == pytest.approx([100, 50])
    assert project(homography, (80, 20)) == pytest.approx([100, 70])  # the x axis points down now
    assert project(homography, (40, 40)) == pytest.approx([90, 50])


def test_pose_with_tilt_foreshortens_and_keeps_lines() -> None:
    homography = rendering.pose((101, 101), (0, 0), 1.0, 0.0, (0.0, 0.5))
    left, right = project(homography, (0, 50)), project(homography, (100, 50))
    assert right[0] - left[0] < 100 * np.cos(0.5) * 1.1
    assert abs(left[0]) != pytest.approx(abs(right[0]), rel=0.05)  # the nearer half is larger
    points = np.array([project(homography, (t, 2 * t / 3)) for t in (0, 30, 60, 90)])
    assert np.linalg.matrix_rank(points - points[0], tol=1e-6) == 1


def test_frame_holds_the_object_with_the_asked_margin() -> None:
    homography = rendering.pose((120, 80), (7, 9), 1.3, 0.7, (0.2, -0.3))
    moved, (width, height) = rendering.frame(
        homography, (120, 80), np.array([1.5, 1.2]), np.array([0.5, 0.0])
    )
    corners = np.array([project(moved, c) for c in ((0, 0), (120, 0), (120, 80), (0, 80))])
    assert corners[:, 1].min() == pytest.approx(0, abs=1e-6)
    assert corners[:, 0].min() == pytest.approx(width - corners[:, 0].max(), abs=1e-6)
    assert np.ptp(corners[:, 0]) * 1.5 == pytest.approx(width, abs=1)
    assert np.ptp(corners[:, 1]) * 1.2 == pytest.approx(height, abs=1)


def test_paste_at_whole_pixels_copies_and_leaves_the_rest(photo: np.ndarray) -> None:
    canvas = np.full((90, 120, 3), 10, np.uint8)
    patch = photo[100:130, 200:240]
    shift = np.array([[1.0, 0, 25], [0, 1, 40], [0, 0, 1]])
    expected = canvas.copy()
    expected[40:70, 25:65] = patch
    assert np.array_equal(rendering.paste(canvas, patch, shift), expected)
    assert (canvas == 10).all()
    outside = np.array([[1.0, 0, 500], [0, 1, 0], [0, 0, 1]])
    assert np.array_equal(rendering.paste(canvas, patch, outside), canvas)


def test_sensor_blurs_and_adds_the_asked_noise(photo: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    grey = np.full((200, 200, 3), 128, np.uint8)
    assert np.std(rendering.sensor(grey, 0.0, 5.0, rng).astype(float)) == pytest.approx(5, rel=0.05)
    assert np.array_equal(rendering.sensor(photo, 0.0, 0.0, rng), photo)
    blurred = rendering.sensor(photo, 2.0, 0.0, rng)
    assert cv2.Laplacian(blurred, cv2.CV_64F).std() < 0.5 * cv2.Laplacian(photo, cv2.CV_64F).std()


def test_jpeg_is_a_file_of_the_picture(photo: np.ndarray) -> None:
    content = rendering.jpeg(photo, 90)
    assert content == rendering.jpeg(photo, 90)
    assert len(rendering.jpeg(photo, 50)) < len(content)
    error = np.asarray(rendering.decode(content)).astype(float) - photo
    assert np.sqrt((error**2).mean()) < 6
