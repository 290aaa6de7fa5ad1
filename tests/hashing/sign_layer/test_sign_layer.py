"""Bi-half and GreedyHash as hashers: what is learned, the contract, and bad input."""

import numpy as np
import pytest
import torch

from niphash.errors import InputError
from niphash.hashing.sign_layer.bihalf import BiHalf
from niphash.hashing.sign_layer.greedyhash import GreedyHash
from niphash.hashing.sign_layer.sign_layer import cosine_loss
from niphash.training.fit_data import FitData

METHODS = [BiHalf, GreedyHash]


@pytest.fixture(scope="module")
def descriptors() -> np.ndarray:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((16, 24)), 8, axis=0) + 0.5 * rng.standard_normal((128, 24)) + 0.5
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def cosines(x: np.ndarray) -> np.ndarray:
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return (x @ x.T)[np.triu_indices(len(x), 1)]


def test_loss_equals_a_naive_loop():
    generator = torch.Generator().manual_seed(0)
    codes = torch.sign(torch.randn(7, 8, generator=generator))
    x = torch.randn(7, 5, generator=generator)
    total = 0.0
    for i in range(3):  # row 6 is left out
        code = codes[i] @ codes[i + 3] / 8
        target = x[i] @ x[i + 3] / (x[i].norm() * x[i + 3].norm())
        total += float(code - target) ** 2 / 3
    assert cosine_loss(codes, x).item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_learning_brings_code_cosines_closer_to_the_descriptors(method, descriptors):
    target = cosines(descriptors - descriptors.mean(axis=0))
    errors = []
    for epochs in (1, 40):
        hasher = method(16, weight=0.1, max_epochs=epochs, learning_rate=0.01)
        hasher.fit(FitData(descriptors))
        signs = np.unpackbits(hasher.encode(descriptors), axis=1) * 2.0 - 1
        errors.append(np.mean((cosines(signs) - target) ** 2))
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("method", METHODS)
def test_codes_state_and_determinism(method, descriptors):
    first, second, restored = (method(16, seed=3, max_epochs=2) for _ in range(3))
    first.fit(FitData(descriptors))
    second.fit(FitData(descriptors))
    restored.load_state_dict(first.state_dict())
    codes = first.encode(descriptors)
    assert codes.shape == (128, 2)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, second.encode(descriptors))
    np.testing.assert_array_equal(codes, restored.encode(descriptors))
    mean, projection = (first.state_dict()[key].double().numpy() for key in ("mean", "projection"))
    values = (descriptors - mean) @ projection
    clear = np.abs(values) > 1e-4
    np.testing.assert_array_equal(np.unpackbits(codes, axis=1, bitorder="little")[clear], values[clear] > 0)


@pytest.mark.parametrize("method", METHODS)
def test_bad_input(method, descriptors):
    with pytest.raises(InputError, match="multiple of 8"):
        method(7)
    with pytest.raises(InputError, match="batch_size=1"):
        method(8, batch_size=1)
    with pytest.raises(InputError, match="at least two"):
        method(8).fit(FitData(descriptors[:1]))
    broken = descriptors.copy()
    broken[5, 0] = np.nan
    with pytest.raises(InputError, match="descriptor 5 "):
        method(8).fit(FitData(broken))
