"""Whitening as a stage after a describer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from niphash.config import build, compose
from niphash.data.images import ImageSet, as_image_set
from niphash.data.pictures.views import RandomView
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.local.bow import BagOfWords
from niphash.descriptors.local.local_describer import LocalDescriber
from niphash.descriptors.local.sift import SiftDoG
from niphash.descriptors.network.cnn import Backbone
from niphash.descriptors.network.cnn_describer import CNNDescriber
from niphash.descriptors.network.pooling import Mean
from niphash.descriptors.stages import Centring, PCAWhitening, StagedDescriber, ViewWhitening
from niphash.errors import InputError
from niphash.training.fit_data import FitData


def descriptors(n: int = 300, dim: int = 10) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(n, dim)) @ np.random.default_rng(1).normal(size=(dim, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_whitened_components_have_variance_one_and_no_covariance():
    x = descriptors()
    stage = PCAWhitening(dim=6)
    stage.fit(FitData(x))
    projected = (x - stage.mean.numpy()) @ stage.axes.numpy().T
    np.testing.assert_allclose(np.cov(projected.T), np.eye(6), atol=1e-2)
    np.testing.assert_allclose(
        stage(x), projected / np.linalg.norm(projected, axis=1, keepdims=True), atol=1e-4
    )


def test_power_zero_only_rotates():
    x = descriptors()
    stage = PCAWhitening(dim=10, power=0)
    stage.fit(FitData(x))
    centred = x - x.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(stage(x) @ stage(x).T, centred @ centred.T, atol=1e-4)


def test_centring_takes_away_what_all_have_in_common():
    x = descriptors() + 1
    stage = Centring()
    stage.fit(FitData(x))
    centred = x - x.mean(0)
    expected = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(stage(x), expected, atol=1e-5)
    loaded = Centring()
    loaded.load_state_dict(stage.state_dict())
    np.testing.assert_array_equal(loaded(x), stage(x))
    with pytest.raises(InputError, match="whitening=centring"):
        loaded.load_state_dict({})


def test_centring_keeps_the_dimensions():
    inner = LocalDescriber(SiftDoG(), BagOfWords(16, 64), device="cpu")
    assert StagedDescriber(inner, [Centring()]).dim == inner.dim
    assert StagedDescriber(inner, [PCAWhitening(dim=20), Centring()]).dim == 20


def test_impossible_sizes_are_named():
    with pytest.raises(InputError, match=r"whitening.dim=11: give 1 to 10"):
        PCAWhitening(dim=11).fit(FitData(descriptors()))
    with pytest.raises(InputError, match=r"whitening.dim=8 needs at least 9 vectors .* gave 8"):
        PCAWhitening(dim=8).fit(FitData(descriptors(8)))
    with pytest.raises(InputError, match=r"whitening.dim=0"):
        PCAWhitening(dim=0)


def make(dim: int = 12) -> StagedDescriber:
    inner = LocalDescriber(SiftDoG(), BagOfWords(16, 64), device="cpu")
    return StagedDescriber(inner, [PCAWhitening(dim=20), PCAWhitening(dim=dim, power=0)])


def test_a_describer_with_stages(object_folder: Path, tmp_path: Path):
    photos = ImageSet.from_folder(object_folder)
    staged = make()
    staged.fit(photos)
    found = staged.describe(photos)
    assert found.shape == (len(photos), 12)
    assert staged.dim == 12
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    expected = staged.describer.describe(photos)
    for stage in staged.stages:
        expected = stage(expected)
    np.testing.assert_allclose(found, expected, atol=1e-5)

    loaded = make()
    loaded.load_state_dict(staged.state_dict())
    assert loaded.fingerprint == staged.fingerprint
    np.testing.assert_array_equal(loaded.describe(photos), found)
    with pytest.raises(InputError, match=r"whitening.dim=13"):
        make(13).load_state_dict(staged.state_dict())

    report = DescribeReport()
    missing = staged.describe(as_image_set([tmp_path / "none.jpg"]), report)
    assert np.isnan(missing).all()
    assert missing.shape == (1, 12)
    assert len(report.skipped) == 1


def test_unreadable_fit_photos_are_left_out(object_folder: Path, tmp_path: Path):
    photos = ImageSet.from_folder(object_folder)
    broken = ImageSet((*photos.ids, "broken"), (*photos.sources, tmp_path / "missing.jpg"))
    staged = make()
    staged.fit(broken)
    assert all(torch.isfinite(tensor).all() for tensor in staged.state_dict().values())


def test_a_fit_set_without_a_usable_photo_is_named(tmp_path: Path):
    network = Backbone("squeezenet1_1", weights="random", size=64)
    staged = StagedDescriber(CNNDescriber(network, Mean(), "fp32"), [PCAWhitening(dim=2)])
    with pytest.raises(InputError, match=r"2 of 2 fit photos could not be read, the first is .*none0\.jpg"):
        staged.fit(as_image_set([tmp_path / "none0.jpg", tmp_path / "none1.jpg"]))
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match="image 0: its descriptor holds NaN"):
        staged.fit(as_image_set([Image.new("RGB", (64, 64))]))


def bag_of_words() -> LocalDescriber:
    return LocalDescriber(SiftDoG(limit=300), BagOfWords(16, 64), device="cpu")


def test_whitening_from_views_is_fitted_on_photos_and_their_random_views(object_folder: Path):
    photos = ImageSet.from_folder(object_folder)
    staged = StagedDescriber(bag_of_words(), [Centring(), ViewWhitening(dim=12, views=2)], seed=5)
    staged.fit(photos)

    sets = [photos, *(photos.with_view(RandomView(seed=5, copy=copy)) for copy in range(2))]
    described = [staged.describer.describe(images) for images in sets]
    centring, whitening = Centring(), ViewWhitening(dim=12)
    centring.fit(FitData(described[0]))  # a stage without views sees the photos alone
    count = len(photos)
    pairs = np.stack([np.tile(np.arange(count), 2), np.arange(count, 3 * count)], axis=1)
    whitening.fit(FitData(np.concatenate([centring(part) for part in described]), pairs))
    for learned, expected in zip(staged.stages, (centring, whitening), strict=True):
        for name, tensor in expected.state_dict().items():
            torch.testing.assert_close(learned.state_dict()[name], tensor, atol=1e-4, rtol=1e-3)

    found = staged.describe(photos)
    assert found.shape == (count, 12)
    np.testing.assert_allclose(found, whitening(centring(described[0])), atol=1e-3)
    loaded = StagedDescriber(bag_of_words(), [Centring(), ViewWhitening(dim=12)])
    loaded.load_state_dict(staged.state_dict())
    assert loaded.fingerprint == staged.fingerprint
    np.testing.assert_array_equal(loaded.describe(photos), found)


class Counting(Centring):
    """A stage of somebody else's, which remembers what it was given."""

    views = 3

    def photos(self, count: int) -> int:
        return min(count, 5)

    def fit(self, data: FitData) -> None:
        super().fit(data)
        self.rows, self.pairs = data.rows, data.pairs


def test_a_stage_says_how_many_photos_and_views_it_learns_from(object_folder: Path, tmp_path: Path):
    photos = ImageSet.from_folder(object_folder)
    broken = ImageSet(("broken", *photos.ids), (tmp_path / "missing.jpg", *photos.sources))
    stage = Counting()
    StagedDescriber(bag_of_words(), [Centring(), stage]).fit(broken)
    assert stage.rows.shape == (20, 64)
    assert stage.pairs.tolist() == [[row % 5, row] for row in range(5, 20)]


def test_whitening_from_views_describes_no_more_photos_than_it_learns_from():
    assert ViewWhitening(views=3, fit_limit=4000).photos(8000) == 1000
    assert ViewWhitening(views=3, fit_limit=4000).photos(10) == 10


def test_views_tell_what_to_look_away_from():
    """Ten dimensions vary from view to view, twenty from thing to thing; unseen things are then found."""
    rng = np.random.default_rng(0)
    things, steady = rng.standard_normal((300, 20)), np.repeat(np.arange(150), 2)
    seen = np.concatenate([things[steady], 2 * rng.standard_normal((300, 10))], axis=1).astype(np.float32)
    unseen = np.concatenate([things[150 + steady], 2 * rng.standard_normal((300, 10))], axis=1)
    stage = ViewWhitening(dim=20, shrinkage=0.1)
    stage.fit(FitData(seen, np.arange(300).reshape(150, 2)))

    def found_first(descriptors: np.ndarray) -> float:
        descriptors = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
        nearest = (descriptors[::2] @ descriptors[1::2].T).argmax(axis=1)
        return float((nearest == np.arange(150)).mean())

    assert found_first(unseen) < 0.4
    assert found_first(stage(unseen.astype(np.float32))) > 0.9


def test_impossible_whitening_from_views_is_refused():
    with pytest.raises(InputError, match=r"whitening.views=0"):
        ViewWhitening(views=0)
    with pytest.raises(InputError, match=r"whitening.fit_limit=5"):
        ViewWhitening(fit_limit=5)
    with pytest.raises(InputError, match=r"whitening.rank=64: .* of at least 128"):
        ViewWhitening(rank=64)
    data = FitData(descriptors(10), np.arange(10).reshape(5, 2))
    with pytest.raises(InputError, match=r"whitening.dim=128 is more than the 9 directions in which 5 fit"):
        ViewWhitening().fit(data)


def test_photos_too_small_to_crop_are_no_reason_to_stop(object_folder: Path):
    photos = ImageSet.from_folder(object_folder)
    tiny = as_image_set([*photos.sources, Image.new("RGB", (1, 1)), Image.new("RGB", (3, 200))])
    staged = StagedDescriber(bag_of_words(), [ViewWhitening(dim=8)])
    staged.fit(tiny)
    assert np.isfinite(staged.describe(tiny)).all()


def test_stages_of_the_configuration_are_a_list_in_any_order():
    first = "{_target_:niphash.descriptors.Centring}"
    pca = "{_target_:niphash.descriptors.PCAWhitening,dim:64}"
    stages = f"descriptor.stages=[{first},{pca},'${{whitening}}']"
    staged = build(compose(["whitening=views", "whitening.dim=32", stages]).descriptor)
    assert [type(stage) for stage in staged.stages] == [Centring, PCAWhitening, ViewWhitening]
    assert staged.dim == 32
