"""Photos to encoded local descriptors: real pictures, real SIFT."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from niphash.data.images import ImageSet, UnreadableImage, as_image_set
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.local.bow import BagOfWords
from niphash.descriptors.local.fisher import Fisher
from niphash.descriptors.local.local_describer import LocalDescriber
from niphash.descriptors.local.sift import SiftDoG
from niphash.descriptors.local.vlad import VLAD
from niphash.errors import InputError


def small(encoder=None, **options) -> LocalDescriber:
    return LocalDescriber(SiftDoG(), encoder or Fisher(16, 8), device="cpu", **options)


@pytest.fixture(scope="module")
def photos(object_folder: Path) -> ImageSet:
    return ImageSet.from_folder(object_folder)


@pytest.fixture(scope="module")
def fitted(photos: ImageSet) -> LocalDescriber:
    describer = small()
    describer.fit(photos)
    return describer


@pytest.mark.parametrize("encoder", [Fisher(16, 8), VLAD(16, 16), BagOfWords(16, 64)])
def test_the_same_object_is_nearest(encoder, photos: ImageSet):
    describer = small(encoder)
    describer.fit(photos)
    descriptors = describer.describe(photos)
    assert descriptors.shape == (len(photos), describer.dim)
    assert descriptors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)
    similarity = descriptors @ descriptors.T - 2 * np.eye(len(photos))
    objects = np.array([image_id.split("/")[0] for image_id in photos.ids])
    assert (objects[similarity.argmax(1)] == objects).mean() > 0.7


def test_equals_the_steps_one_by_one(fitted: LocalDescriber, photos: ImageSet):
    found = fitted.describe(photos)
    for row in (0, 7):
        x = torch.from_numpy(SiftDoG().extract(photos.image(row)).descriptors)
        expected = fitted.encoder(fitted.pca(x), [len(x)])[0].numpy()
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_one_thread_a_photo_leaves_the_threads_of_others_alone(fitted: LocalDescriber, photos: ImageSet):
    def in_a_new_thread() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(3)
    try:
        fitted.describe(photos.subset(range(3)))
        assert torch.get_num_threads() == in_a_new_thread() == 3
    finally:
        torch.set_num_threads(before[0])
    assert cv2.getNumThreads() == before[1]


def test_neither_threads_nor_batches_matter(photos: ImageSet, fitted: LocalDescriber):
    other = small(batch_size=5)
    other.fit(photos)
    assert other.fingerprint == fitted.fingerprint
    whole = fitted.describe(photos)
    np.testing.assert_array_equal(other.describe(photos), whole)
    np.testing.assert_array_equal(fitted.describe(photos.subset([7])), whole[[7]])


def test_another_seed_draws_another_sample(photos: ImageSet):
    samples = [small(seed=seed, fit_descriptors=500).sample(photos) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(samples[0][0], samples[1][0])
    assert samples[0][0].shape[0] <= 500
    assert sum(samples[0][1]) == len(samples[0][0])
    assert not np.array_equal(samples[0][0], samples[2][0])


def test_blank_and_broken_photos_are_reported(fitted: LocalDescriber, tmp_path: Path, photos: ImageSet):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    mixed = as_image_set([photos.image(0), Image.new("RGB", (80, 60), "white"), broken, photos.image(1)])
    report = DescribeReport()
    found = fitted.describe(mixed, report)
    assert report.blank == 1
    assert [(skip.row, skip.image_id) for skip in report.skipped] == [(2, str(broken))]
    assert np.isnan(found[2]).all()
    np.testing.assert_allclose(found[1], -(fitted.dim**-0.5), rtol=1e-6)
    np.testing.assert_allclose(found[[0, 3]], fitted.describe(photos)[:2], atol=1e-6)
    with pytest.raises(UnreadableImage, match="broken"):
        fitted.describe(mixed)


def test_a_batch_of_nothing_but_broken_photos(fitted: LocalDescriber, tmp_path: Path):
    report = DescribeReport()
    found = fitted.describe(as_image_set([tmp_path / "a.jpg", tmp_path / "b.jpg"]), report)
    assert np.isnan(found).all()
    assert len(report.skipped) == 2


def test_the_state_comes_back_from_a_file(fitted: LocalDescriber, photos: ImageSet, tmp_path: Path):
    save_file(fitted.state_dict(), tmp_path / "describer.safetensors")
    loaded = small()
    assert loaded.fingerprint != fitted.fingerprint
    loaded.load_state_dict(load_file(tmp_path / "describer.safetensors"))
    assert loaded.fingerprint == fitted.fingerprint
    np.testing.assert_array_equal(loaded.describe(photos), fitted.describe(photos))


def test_the_state_of_another_configuration_is_refused(fitted: LocalDescriber):
    with pytest.raises(InputError, match="'encoder' do not fit"):
        small(Fisher(16, 9)).load_state_dict(fitted.state_dict())
    with pytest.raises(InputError, match="unknown tensors backbone"):
        small().load_state_dict(fitted.state_dict() | {"backbone.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="'pca' do not fit"):
        small().load_state_dict({})


def test_too_small_a_fit_set_is_named(photos: ImageSet):
    one = photos.subset([0])
    with pytest.raises(InputError, match=r"pooling.gaussians=640 needs at least 6400"):
        small(Fisher(16, 640)).fit(one)
    with pytest.raises(InputError, match=r"pooling.local_dim=16 needs at least 17"):
        small(fit_descriptors=3).fit(one)
    with pytest.raises(InputError, match="no local descriptor to fit on: none in 1 fit photos; give other"):
        small().fit(as_image_set(Image.new("RGB", (64, 64))))


def test_unreadable_fit_photos_are_counted_and_the_first_is_named(tmp_path: Path):
    (tmp_path / "0.jpg").write_bytes(b"broken")
    Image.new("RGB", (64, 64)).save(tmp_path / "1.png")
    message = r"to fit on: 1 of 2 fit photos could not be read, the first is 0\.jpg \(is not an image"
    with pytest.raises(InputError, match=message):
        small().fit(ImageSet.from_folder(tmp_path))


def test_opencv_threads_are_given_back(fitted: LocalDescriber, photos: ImageSet):
    before = cv2.getNumThreads()
    fitted.describe(photos.subset([0, 1]))
    assert cv2.getNumThreads() == before


def test_what_the_options_change_shows_in_the_fingerprint():
    describers = [
        LocalDescriber(SiftDoG(), Fisher(16, 8)),
        LocalDescriber(SiftDoG(longer_side=320), Fisher(16, 8)),
        LocalDescriber(SiftDoG(rootsift=False), Fisher(16, 8)),
        LocalDescriber(SiftDoG(), Fisher(16, 8, alpha=0.3)),
        LocalDescriber(SiftDoG(), VLAD(16, 8)),
        LocalDescriber(SiftDoG(), VLAD(16, 8, intra=True)),
    ]
    assert len({describer.fingerprint for describer in describers}) == len(describers)
    assert LocalDescriber(SiftDoG(), Fisher(16, 8), batch_size=3).fingerprint == describers[0].fingerprint
