"""VLAD against a naive loop."""

import numpy as np
import pytest
import torch

from niphash.descriptors.local.vlad import VLAD, vlad
from niphash.errors import InputError

K, D = 4, 5


def naive_vlad(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    total = np.zeros_like(centroids)
    for point in x:
        k = min(range(len(centroids)), key=lambda j: ((point - centroids[j]) ** 2).sum())
        total[k] += point - centroids[k]
    return total


@pytest.fixture
def data() -> tuple[np.ndarray, list[int], np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = [20, 0, 1, 60]
    return rng.normal(size=(81, D)), lengths, rng.normal(size=(K, D))


def test_equals_a_naive_loop(data):
    x, lengths, centroids = data
    ours = vlad(torch.from_numpy(x), lengths, torch.from_numpy(centroids)).numpy()
    for row, own in enumerate(np.split(x, np.cumsum(lengths)[:-1])):
        np.testing.assert_allclose(ours[row], naive_vlad(own, centroids), atol=1e-12)


@pytest.mark.parametrize("intra", [False, True])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_normalisation_equals_a_naive_loop(data, intra: bool, alpha: float):
    x, lengths, centroids = data
    encoder = VLAD(D, K, alpha=alpha, intra=intra)
    encoder.load_state_dict({"centroids": torch.from_numpy(centroids)})
    ours = encoder(torch.from_numpy(x).float(), lengths).numpy()
    for row, own in enumerate(np.split(x, np.cumsum(lengths)[:-1])):
        expected = naive_vlad(own, centroids)
        expected = np.sign(expected) * np.abs(expected) ** alpha
        if intra:
            for k in range(K):
                expected[k] /= np.linalg.norm(expected[k]) or 1
        if lengths[row]:
            np.testing.assert_allclose(ours[row], expected.ravel() / np.linalg.norm(expected), atol=1e-4)
        else:
            np.testing.assert_allclose(ours[row], -((K * D) ** -0.5), rtol=1e-6)


def test_fit_finds_the_clusters():
    centres = np.array([[0, 0], [9, 3], [3, 9]], np.float32)
    rng = np.random.default_rng(0)
    encoder = VLAD(2, 3)
    encoder.fit((centres[np.arange(300) % 3] + rng.normal(0, 0.2, (300, 2))).astype(np.float32), [300])
    found = encoder.centroids.numpy()
    np.testing.assert_allclose(found[np.lexsort(found.T)], centres[np.lexsort(centres.T)], atol=0.1)


def test_too_few_local_descriptors_are_named():
    with pytest.raises(InputError, match=r"pooling.centroids=128 needs at least 128 .* gave 5"):
        VLAD(local_dim=4).fit(np.zeros((5, 4), np.float32), [5])
