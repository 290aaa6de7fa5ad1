"""Whitening as a stage after a describer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from niphash.data.images import ImageSet, as_image_set
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.local.bow import BagOfWords
from niphash.descriptors.local.local_describer import LocalDescriber
from niphash.descriptors.local.sift import SiftDoG
from niphash.descriptors.network.cnn import Backbone
from niphash.descriptors.network.cnn_describer import CNNDescriber
from niphash.descriptors.network.pooling import Mean
from niphash.descriptors.stages import Centring, PCAWhitening, StagedDescriber
from niphash.errors import InputError


def descriptors(n: int = 300, dim: int = 10) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(n, dim)) @ np.random.default_rng(1).normal(size=(dim, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_whitened_components_have_variance_one_and_no_covariance():
    x = descriptors()
    stage = PCAWhitening(dim=6)
    stage.fit(x)
    projected = (x - stage.mean.numpy()) @ stage.axes.numpy().T
    np.testing.assert_allclose(np.cov(projected.T), np.eye(6), atol=1e-2)
    np.testing.assert_allclose(
        stage(x), projected / np.linalg.norm(projected, axis=1, keepdims=True), atol=1e-4
    )


def test_power_zero_only_rotates():
    x = descriptors()
    stage = PCAWhitening(dim=10, power=0)
    stage.fit(x)
    centred = x - x.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(stage(x) @ stage(x).T, centred @ centred.T, atol=1e-4)


def test_centring_takes_away_what_all_have_in_common():
    x = descriptors() + 1
    stage = Centring()
    stage.fit(x)
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
        PCAWhitening(dim=11).fit(descriptors())
    with pytest.raises(InputError, match=r"whitening.dim=8 needs at least 9 vectors .* gave 8"):
        PCAWhitening(dim=8).fit(descriptors(8))
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
