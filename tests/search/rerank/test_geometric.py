"""Geometric re-ranking of real photographs: known maps are found again, and nothing else is."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from niphash.data.images import ImageSet, UnreadableImage, as_image_set
from niphash.errors import InputError
from niphash.search.rerank import DescribedPhotos, Geometric, draw_region, new_reranker
from niphash.search.rerank.feature_store import FeatureStore
from niphash.search.rerank.features import FeatureExtractor
from niphash.search.rerank.matching import Search, fit_map, match, outline
from tests.photos import real_photos

WALL = Image.new("RGB", (200, 150), (120, 130, 140))


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return real_photos()


def photos_of(*images: Image.Image | Path) -> DescribedPhotos:
    return DescribedPhotos(as_image_set(list(images)))


def view(photo: Image.Image, corners: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Return what a camera of ``size`` sees that has the corners of its picture at ``corners`` of a photo."""
    own = np.array([[0, 0], [size[0], 0], size, [0, size[1]]], np.float32)
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), own)
    return Image.fromarray(cv2.warpPerspective(np.asarray(photo), matrix, size, flags=cv2.INTER_AREA))


@pytest.mark.parametrize(
    "corners",
    [
        [[60, 40], [420, 70], [440, 460], [30, 430]],  # seen from the side
        [[400, 60], [420, 440], [60, 420], [90, 80]],  # a quarter turned
        [[-100, -80], [600, -40], [640, 580], [-60, 540]],  # the photo with what lies around it
    ],
)
def test_the_region_of_a_known_view_is_found_within_pixels(photos: list[Image.Image], corners: list):
    query = view(photos[0], np.array(corners), (480, 400))
    result = Geometric().rerank(photos_of(query), photos_of(*photos[1:], photos[0]))
    assert result.order[0] == len(photos) - 1
    assert result.order[1:].tolist() == list(range(len(photos) - 1))  # the others keep their order
    assert result.scores[0] > 50
    assert result.scores[1:].max() < 7
    assert np.abs(result.regions[0] - corners).max() < 3
    assert result.regions[1:] == (None,) * (len(photos) - 1)


def test_a_similarity_is_found_and_a_tilted_view_is_less_of_one(photos: list[Image.Image]):
    turned = np.array([[400, 100], [400, 400], [100, 400], [100, 100]])
    tilted = np.array([[60, 40], [460, 140], [460, 340], [60, 460]])
    similar = Geometric(map="similarity")
    result = similar.rerank(photos_of(view(photos[0], turned, (300, 300))), photos_of(*photos[:2]))
    assert np.abs(result.regions[0] - turned).max() < 3
    query = photos_of(view(photos[0], tilted, (400, 400)))
    plane, flat = (ranker.rerank(query, photos_of(photos[0])).scores[0] for ranker in (Geometric(), similar))
    assert plane > 1.3 * flat


def test_photos_larger_than_the_working_size_keep_their_own_pixels(photos: list[Image.Image]):
    large = photos[0].resize((1536, 1536), Image.Resampling.LANCZOS)
    corners = np.array([[300, 240], [1300, 300], [1200, 1300], [240, 1200]])
    query = view(large, corners, (1000, 1000))
    result = Geometric().rerank(photos_of(query), photos_of(large))
    assert np.abs(result.regions[0] - corners).max() < 8


def test_a_mirrored_photo_is_no_view(photos: list[Image.Image]):
    mirrored = photos[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    result = Geometric().rerank(photos_of(mirrored), photos_of(photos[0]))
    assert result.regions == (None,)


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([-1.0, 1, 1]),  # mirrored
        np.diag([0.001, 0.001, 1]),  # a point
        np.array([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1.0]]),  # half of it behind the camera
    ],
)
def test_what_no_camera_sees_has_no_outline(matrix: np.ndarray):
    size = np.array([100, 80])
    assert outline(matrix, size, size) is None
    assert np.array_equal(outline(np.eye(3), size, size), [[0, 0], [100, 0], [100, 80], [0, 80]])


def test_photos_without_features_keep_their_places(photos: list[Image.Image]):
    ranker = Geometric()
    result = ranker.rerank(photos_of(WALL), photos_of(*photos))
    assert result.order.tolist() == list(range(len(photos)))
    assert not result.scores.any()
    result = ranker.rerank(photos_of(photos[0]), photos_of(WALL, photos[1], photos[0], WALL))
    assert result.order.tolist() == [2, 0, 1, 3]


def test_one_feature_matches_nothing():
    one = np.ones((1, 128), np.uint8)
    assert not len(match(one, Search.of(one), 0.8).query)
    assert not len(match(one[:0], Search.of(one), 0.8).query)
    assert not len(match(one, Search.of(one[:0]), 0.8).query)
    assert fit_map(np.zeros((1, 2)), np.zeros((1, 2)), "homography", 4, 0) is None


@pytest.mark.parametrize("kind", ["homography", "similarity"])
def test_points_in_one_place_or_on_one_line_are_no_view(kind: str):
    line = np.stack([np.arange(20.0), np.arange(20.0)], 1)
    size = np.array([100, 100])
    for query, candidate in ((np.ones((20, 2)), line), (line, np.ones((20, 2)))):
        found = fit_map(query, candidate, kind, 4, 0)
        assert found is None or found.inliers <= 1 or outline(found.matrix, size, size) is None


def test_matches_are_those_of_a_plain_search():
    rng = np.random.default_rng(0)
    query = rng.integers(0, 256, (40, 128), np.uint8)
    noise = rng.integers(-30, 30, (40, 128))
    candidate = np.concatenate([np.clip(query + noise, 0, 255), rng.integers(0, 256, (30, 128))])
    order = rng.permutation(70)
    candidate = candidate[order].astype(np.uint8)
    distances = np.linalg.norm(query[:, None].astype(float) - candidate, axis=2)
    first, second = np.sort(distances, axis=1)[:, :2].T
    found = match(query, Search.of(candidate), 0.7)
    sure = np.flatnonzero(first < 0.7 * second)
    assert sorted(found.query) == sure.tolist()
    assert len(sure) == 40
    assert (distances.argmin(axis=1)[found.query] == found.candidate).all()
    assert (np.diff((first / second)[found.query]) >= 0).all()


def test_no_feature_of_a_candidate_is_in_two_matches():
    rng = np.random.default_rng(1)
    candidate = rng.integers(0, 256, (10, 128), np.uint8)
    found = match(np.repeat(candidate[:2], 3, axis=0), Search.of(candidate), 0.8)
    assert sorted(found.candidate) == [0, 1]


def test_identical_photos_are_first_and_tie_in_their_order(photos: list[Image.Image]):
    ranker = Geometric()
    candidates = photos_of(photos[1], photos[0], photos[2], photos[0], photos[0])
    first = ranker.rerank(photos_of(photos[0]), candidates)
    assert first.order.tolist() == [1, 3, 4, 0, 2]
    assert first.scores[0] == first.scores[1] == first.scores[2]
    again = ranker.rerank(photos_of(photos[0]), candidates)
    assert np.array_equal(first.scores, again.scores)
    assert np.array_equal(first.regions[0], again.regions[0])


def test_only_the_first_results_are_looked_at(photos: list[Image.Image]):
    result = Geometric(first=2).rerank(photos_of(photos[0]), photos_of(*photos[1:4], photos[0]))
    assert result.order.tolist() == [0, 1, 2, 3]
    assert np.isnan(result.scores[2:]).all()
    nothing = Geometric().rerank(photos_of(photos[0]), DescribedPhotos(ImageSet((), ())))
    assert nothing.order.shape == (0,)


def test_unreadable_candidates_go_behind_and_an_unreadable_query_is_said(
    photos: list[Image.Image], tmp_path: Path
):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    photos[0].save(tmp_path / "whole.png")
    broken, whole = tmp_path / "broken.jpg", tmp_path / "whole.png"
    result = Geometric(folder=tmp_path / "features").rerank(
        photos_of(photos[0]), photos_of(tmp_path / "missing.jpg", broken, photos[1], whole)
    )
    assert result.order.tolist() == [3, 2, 0, 1]
    assert np.isnan(result.scores[2:]).all()
    with pytest.raises(UnreadableImage, match=r"broken\.jpg"):
        Geometric().rerank(photos_of(broken), photos_of(whole))


class TestFeatureStore:
    @pytest.fixture
    def images(self, photos: list[Image.Image]) -> ImageSet:
        return as_image_set(photos[:2])

    @pytest.fixture
    def store(self, tmp_path: Path, images: ImageSet) -> FeatureStore:
        store = FeatureStore(FeatureExtractor(300, 640, 0.01), tmp_path)
        store.features(images, 0)
        return store

    def file(self, store: FeatureStore) -> Path:
        (path,) = Path(store.folder).rglob("*.safetensors")
        return path

    def test_features_are_computed_once(
        self, store: FeatureStore, images: ImageSet, monkeypatch: pytest.MonkeyPatch
    ):
        fresh = store.extractor.extract(images.image(0))
        monkeypatch.setattr(FeatureExtractor, "extract", None)
        kept = store.features(images, 0)
        assert all(np.array_equal(one, other) for one, other in zip(fresh, kept, strict=True))
        assert len(kept.descriptors) == 300
        assert self.file(store).stat().st_size < 300 * 132 + 500

    def test_positions_are_those_of_the_detector_and_strongest_come_first(self, photos: list[Image.Image]):
        features = FeatureExtractor(100, 640, 0.01).extract(photos[0])
        grey = cv2.cvtColor(np.asarray(photos[0]), cv2.COLOR_RGB2GRAY)
        points = cv2.SIFT.create(contrastThreshold=0.01).detect(np.asarray(photos[0].convert("L")))
        points = sorted(points, key=lambda point: -point.response)[:100]
        expected = np.array([point.pt for point in points])
        assert np.abs(features.pixels(max(grey.shape)) - expected).max() < 0.01

    @pytest.mark.parametrize(
        "change",
        [
            {"descriptors": np.zeros((5, 64), np.uint8)},
            {"descriptors": np.zeros((301, 128), np.uint8), "positions": np.zeros((301, 2), np.uint16)},
            {"positions": np.zeros((300, 2), np.float32)},
            {"positions": np.zeros((299, 2), np.uint16)},
            {"size": np.array([0, 512])},
            {"size": np.array([2**62, 512])},
            {"size": np.array(512)},
            {"other": np.zeros(1)},
        ],
        ids=str,
    )
    def test_hostile_tensors_are_computed_again(
        self,
        store: FeatureStore,
        images: ImageSet,
        change: dict[str, np.ndarray],
        caplog: pytest.LogCaptureFixture,
    ):
        path = self.file(store)
        whole = path.read_bytes()
        save_file(load_file(path) | change, path)
        with caplog.at_level(logging.WARNING):
            assert len(store.features(images, 0).descriptors) == 300
        assert path.name in caplog.text
        assert path.read_bytes() == whole

    @pytest.mark.parametrize(
        "content",
        [b"", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}", b"\0" * 10**6],
        ids=["empty", "noise", "header", "long"],
    )
    def test_hostile_bytes_are_computed_again(self, store: FeatureStore, images: ImageSet, content: bytes):
        path = self.file(store)
        whole = path.read_bytes()
        path.write_bytes(content)
        assert len(store.features(images, 0).descriptors) == 300
        assert path.read_bytes() == whole

    def test_a_folder_that_cannot_be_written_keeps_nothing_and_says_so(
        self, images: ImageSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        (tmp_path / "file").write_text("in the way")
        store = FeatureStore(FeatureExtractor(300, 640, 0.01), tmp_path / "file")
        for row in (0, 1, 0):
            assert len(store.features(images, row).descriptors) == 300
        assert caplog.text.count("cannot be written") == 1

    def test_other_constants_are_kept_apart(self, store: FeatureStore, images: ImageSet, tmp_path: Path):
        other = FeatureStore(FeatureExtractor(200, 640, 0.01), tmp_path)
        assert len(other.features(images, 0).descriptors) == 200
        assert other.folder != store.folder


def test_a_region_is_drawn_where_it_is(photos: list[Image.Image]):
    region = np.array([[50, 60], [300, 60], [300, 200], [-1e9, 200]], np.float32)
    drawn = draw_region(photos[0], region)
    assert drawn.getpixel((200, 60)) == drawn.getpixel((300, 150)) == (213, 94, 0)
    assert drawn.getpixel((200, 150)) == photos[0].getpixel((200, 150))
    assert drawn.size == photos[0].size


@pytest.mark.parametrize(
    "options", [{"ratio": 1}, {"points": 2}, {"map": "affine"}, {"first": 0}, {"threshold": 0}, {"seed": -1}]
)
def test_impossible_options_are_refused(options: dict):
    with pytest.raises(InputError, match=rf"rerank\.{next(iter(options))}="):
        Geometric(**options)


def test_re_rankings_go_by_name():
    assert new_reranker("none") is None
    assert isinstance(new_reranker("geometric"), Geometric)
    with pytest.raises(InputError, match="query_expansion"):
        new_reranker("geometry")
