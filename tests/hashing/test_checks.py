import numpy as np

from niphash.hashing.checks import fit_moments


def test_moments_are_those_of_numpy():
    data = np.random.default_rng(0).normal(5, 3, (10_000, 16)).astype(np.float32)
    data[:, 4] = 2.0
    mean, scale = fit_moments(data)
    assert np.allclose(mean, data.mean(0), atol=1e-4)
    expected = data.astype(np.float64).std(0)
    expected[4] = 1.0
    assert np.allclose(scale, expected, rtol=1e-4)
