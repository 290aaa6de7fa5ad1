from itertools import pairwise

import numpy as np
import pytest
import torch

from niphash.errors import InputError
from niphash.hashing.closed_form.bpbc import BPBC, code_shape, nearly_square, orthonormal
from niphash.training.fit_data import FitData


@pytest.fixture
def descriptors() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((200, 48)) + 1).astype(np.float32)


def test_bits_are_signs_of_the_bilinear_form(descriptors):
    hasher = BPBC(16)
    hasher.fit(FitData(descriptors))
    state = {key: value.double().numpy() for key, value in hasher.state_dict().items()}
    codes = hasher.encode(descriptors)
    left, right = state["left"], state["right"]
    for name in ("left", "right"):
        np.testing.assert_allclose(state[name].T @ state[name], np.eye(state[name].shape[1]), atol=1e-5)
    for image, code in zip(descriptors, codes, strict=True):
        matrix = (image - state["mean"]).reshape(len(left), len(right))
        value = (left.T @ matrix @ right).ravel()
        bit = np.unpackbits(code, bitorder="little")
        clear = np.abs(value) > 1e-4
        np.testing.assert_array_equal(bit[clear], value[clear] > 0)


def test_alternation_lowers_the_quantisation_loss(descriptors):
    """Gong et al. maximise the sum of |R1^T X R2| (their eq. 4 for full rank, 3.3 for fewer bits)."""

    def absolute_sum(iterations: int) -> float:
        hasher = BPBC(16, iterations=iterations)
        hasher.fit(FitData(descriptors))
        state = {key: value.double().numpy() for key, value in hasher.state_dict().items()}
        matrices = (descriptors - state["mean"]).reshape(len(descriptors), 6, 8)
        return sum(np.abs(state["left"].T @ x @ state["right"]).sum() for x in matrices)

    sums = [absolute_sum(i) for i in range(5)]
    assert all(b >= a * (1 - 1e-6) for a, b in pairwise(sums))
    assert sums[-1] > 1.02 * sums[0]


def test_orthonormal_factor_has_the_largest_trace():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    best = (orthonormal(target) * target).sum()
    for _ in range(200):
        other = torch.linalg.qr(torch.randn(6, 3, generator=generator, dtype=torch.float64))[0]
        assert (other * target).sum() <= best


@pytest.mark.parametrize(
    ("dim", "expected"), [(512, (16, 32)), (8192, (64, 128)), (1280, (32, 40)), (13, (1, 13))]
)
def test_matrix_is_nearly_square(dim, expected):
    assert nearly_square(dim) == expected


def test_code_keeps_the_proportions():
    assert code_shape(128, (64, 128)) == (8, 16)
    assert code_shape(512, (16, 32)) == (16, 32)
    with pytest.raises(InputError, match="cannot be split"):
        code_shape(64, (1, 13))


def test_state_determinism_and_recentring(descriptors):
    first, second, restored = (BPBC(16, seed=1) for _ in range(3))
    first.fit(FitData(descriptors))
    second.fit(FitData(descriptors))
    restored.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(first.encode(descriptors), second.encode(descriptors))
    np.testing.assert_array_equal(first.encode(descriptors), restored.encode(descriptors))
    first.recenter(descriptors + 7)
    np.testing.assert_array_equal(first.encode(descriptors + 7), second.encode(descriptors))


def test_bad_input(descriptors):
    with pytest.raises(InputError, match="cannot be split"):
        BPBC(56).fit(FitData(descriptors))
    with pytest.raises(InputError, match="does not make a matrix of 48"):
        BPBC(16, shape=(5, 5)).fit(FitData(descriptors))
    hasher = BPBC(16, shape=(4, 12))
    hasher.fit(FitData(descriptors))
    with pytest.raises(InputError, match="16 bits"):
        BPBC(8).load_state_dict(hasher.state_dict())
    broken = descriptors.copy()
    broken[5, 0] = np.nan
    with pytest.raises(InputError, match="descriptor 5 "):
        hasher.fit(FitData(broken))
    with pytest.raises(InputError, match="48 dimensions"):
        hasher.encode(descriptors[:, :7])
