import numpy as np
import pytest

from niphash.errors import InputError
from niphash.hashing.closed_form.spectral import SpectralHashing, smoothest_modes
from niphash.training.fit_data import FitData


@pytest.fixture
def descriptors() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.uniform(-1, 1, (400, 20)) * np.geomspace(40, 1, 20) + 2).astype(np.float32)


def reference_bits(fit: np.ndarray, query: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Weiss's recipe one image and one bit at a time; also the eigenfunction values."""
    mean = fit.mean(axis=0)
    axes = np.linalg.svd(fit - mean, full_matrices=False)[2][:bits]
    low = [min((x - mean) @ axis for x in fit) for axis in axes]
    high = [max((x - mean) @ axis for x in fit) for axis in axes]
    modes = sorted((k / (high[a] - low[a]), a, k) for a in range(bits) for k in range(1, bits + 1))[:bits]
    values = np.empty((len(query), bits))
    for i, x in enumerate(query):
        for j, (_, a, k) in enumerate(modes):
            v = (x - mean) @ axes[a]
            values[i, j] = np.sin(np.pi / 2 + k * np.pi * (v - low[a]) / (high[a] - low[a]))
    return values > 0, values


def test_code_follows_the_papers_recipe(descriptors):
    """An axis may point either way; then an even mode stays and an odd mode flips for all images."""
    hasher = SpectralHashing(16)
    hasher.fit(FitData(descriptors))
    found = np.unpackbits(hasher.encode(descriptors), axis=1, bitorder="little").astype(bool)
    expected, values = reference_bits(descriptors.astype(np.float64), descriptors.astype(np.float64), 16)
    for j in range(16):
        clear = np.abs(values[:, j]) > 1e-2
        same = (found[clear, j] == expected[clear, j]).mean()
        assert same in (0.0, 1.0)


def test_long_axes_are_cut_more_often(descriptors):
    axis, mode = smoothest_modes(np.array([8.0, 2.0, 1.0]), 6)
    assert list(zip(axis, mode, strict=True)) == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (0, 5)]


def test_state_determinism_and_shape(descriptors):
    first, second, restored = (SpectralHashing(24 - 8) for _ in range(3))
    first.fit(FitData(descriptors))
    second.fit(FitData(descriptors))
    restored.load_state_dict(first.state_dict())
    assert first.encode(descriptors).shape == (400, 2)
    np.testing.assert_array_equal(first.encode(descriptors), second.encode(descriptors))
    np.testing.assert_array_equal(first.encode(descriptors), restored.encode(descriptors))


def test_recentring_follows_a_shifted_collection(descriptors):
    hasher = SpectralHashing(16)
    hasher.fit(FitData(descriptors))
    expected = hasher.encode(descriptors)
    assert (hasher.encode(descriptors + 8) != expected).any()
    hasher.recenter(descriptors + 8)
    changed = np.unpackbits(hasher.encode(descriptors + 8) ^ expected).mean()
    assert changed < 0.001  # a value on a threshold may round to either side


def test_bad_input(descriptors):
    with pytest.raises(InputError, match="20 dimensions"):
        SpectralHashing(24).fit(FitData(descriptors))
    with pytest.raises(InputError, match="too few"):
        SpectralHashing(16).fit(FitData(descriptors[:10]))
    with pytest.raises(InputError, match="multiple of 8"):
        SpectralHashing(7)
    hasher = SpectralHashing(16)
    hasher.fit(FitData(descriptors))
    with pytest.raises(InputError, match="16 bits"):
        SpectralHashing(8).load_state_dict(hasher.state_dict())
    broken = descriptors.copy()
    broken[5, 0] = np.nan
    with pytest.raises(InputError, match="descriptor 5 "):
        hasher.fit(FitData(broken))
