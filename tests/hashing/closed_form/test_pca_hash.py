import numpy as np
import pytest

from niphash.config import build, compose
from niphash.errors import InputError
from niphash.hashing.closed_form.itq import ITQ
from niphash.hashing.closed_form.pca_hash import PCAHash
from niphash.hashing.codes import unpack_bits
from niphash.training.fit_data import FitData


@pytest.fixture
def descriptors() -> np.ndarray:
    rng = np.random.default_rng(2)
    return (rng.standard_normal((400, 20)) * np.linspace(6, 1, 20) + 3).astype(np.float32)


def test_bits_are_signs_of_the_rotated_singular_vectors(descriptors):
    hasher = PCAHash(16, seed=5)
    hasher.fit(FitData(descriptors))
    centred = descriptors.astype(np.float64) - descriptors.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:16].T
    learned = hasher.state_dict()["projection"].numpy().astype(np.float64)
    rotation = np.linalg.qr(np.random.default_rng(5).standard_normal((16, 16)))[0]
    back = learned @ rotation.T  # the axes that were rotated, of either sign
    np.testing.assert_allclose(np.abs(np.sum(back * axes, axis=0)), 1, atol=1e-4)
    expected = centred @ (axes * np.sign(np.sum(back * axes, axis=0))) @ rotation > 0
    assert (unpack_bits(hasher.encode(descriptors)) != expected).mean() < 1e-3


def test_every_bit_has_its_share_of_the_variance(descriptors):
    """Of the leading components one varies much more than another; rotated, they are closer together."""
    hasher = PCAHash(16)
    hasher.fit(FitData(descriptors))
    variances = hasher.project(descriptors).var(axis=0)
    kept = np.linalg.eigvalsh(np.cov(descriptors.T))[::-1][:16]
    assert kept[0] / kept[-1] > 5
    np.testing.assert_allclose(variances.sum(), kept.sum(), rtol=0.01)
    assert variances.max() / variances.min() < kept[0] / kept[-1] / 2


def test_it_is_what_itq_starts_from(descriptors):
    ours, itq, other = PCAHash(8, seed=1), ITQ(8, seed=1, iterations=0), PCAHash(8, seed=2)
    for hasher in (ours, itq, other):
        hasher.fit(FitData(descriptors))
    np.testing.assert_array_equal(ours.encode(descriptors), itq.encode(descriptors))
    assert (ours.encode(descriptors) != other.encode(descriptors)).any()


def test_fewer_photos_than_bits_are_refused():
    with pytest.raises(InputError, match="PCA needs at least 65"):
        build(compose(["hashing=pca_hash"]).hashing).check(dim=512, count=64)
