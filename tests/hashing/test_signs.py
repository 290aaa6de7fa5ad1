"""Every method whose bit is the sign of one projection: the contract, and bad input."""

import numpy as np
import pytest

from niphash.errors import InputError
from niphash.hashing.closed_form.itq import ITQ
from niphash.hashing.closed_form.lsh import LSH
from niphash.hashing.closed_form.pca_sign import PCASign
from niphash.hashing.codes import unpack_bits
from niphash.training.fit_data import FitData

METHODS = [ITQ, LSH, PCASign]


@pytest.fixture
def descriptors() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, 40)) * 2 + 1
    return (np.repeat(centres, 6, axis=0) + rng.standard_normal((120, 40))).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_bits_are_signs_of_projections_in_contract_order(method, descriptors):
    hasher = method(16, seed=3)
    hasher.fit(FitData(descriptors))
    codes = hasher.encode(descriptors)
    assert codes.shape == (120, 2)
    assert codes.dtype == np.uint8
    mean, projection = (hasher.state_dict()[key].numpy().astype(np.float64) for key in ("mean", "projection"))
    np.testing.assert_allclose(mean, descriptors.mean(axis=0), atol=1e-6)
    values = (descriptors - mean) @ projection
    for j in range(16):
        bit = codes[:, j // 8] >> (j % 8) & 1
        clear = np.abs(values[:, j]) > 1e-4
        assert clear.sum() > 100
        np.testing.assert_array_equal(bit[clear], values[clear, j] > 0)


@pytest.mark.parametrize("method", METHODS)
def test_codes_are_the_signs_of_what_a_query_is_projected_to(method, descriptors):
    hasher = method(16)
    hasher.fit(FitData(descriptors))
    projections = hasher.project(descriptors)
    assert projections.shape == (120, 16)
    assert projections.dtype == np.float32
    np.testing.assert_array_equal(unpack_bits(hasher.encode(descriptors)), projections > 0)
    assert hasher.project(descriptors[:0]).shape == (0, 16)
    with pytest.raises(InputError, match="40 dimensions"):
        hasher.project(descriptors[:, :39])


@pytest.mark.parametrize("method", METHODS)
def test_saved_state_encodes_alike_and_a_seed_gives_one_code(method, descriptors):
    first, second, restored = method(16, seed=0), method(16, seed=0), method(16, seed=0)
    first.fit(FitData(descriptors))
    second.fit(FitData(descriptors))
    restored.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(first.encode(descriptors), second.encode(descriptors))
    np.testing.assert_array_equal(first.encode(descriptors), restored.encode(descriptors))


@pytest.mark.parametrize("method", [ITQ, LSH])
def test_another_seed_gives_another_code(method, descriptors):
    codes = []
    for seed in (0, 1):
        hasher = method(16, seed=seed)
        hasher.fit(FitData(descriptors))
        codes.append(hasher.encode(descriptors))
    assert (codes[0] != codes[1]).any()


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_and_memory_maps_are_read(method, descriptors, tmp_path):
    path = tmp_path / "descriptors.npy"
    np.save(path, descriptors.astype(np.float16))
    mapped, plain = method(16), method(16)
    mapped.fit(FitData(np.load(path, mmap_mode="r")))
    plain.fit(FitData(descriptors.astype(np.float16).astype(np.float32)))
    np.testing.assert_array_equal(mapped.encode(np.load(path, mmap_mode="r")), plain.encode(np.load(path)))


@pytest.mark.parametrize("method", METHODS)
def test_recentring_balances_the_bits_of_a_shifted_collection(method, descriptors):
    shifted = descriptors + 5
    hasher = method(16)
    hasher.fit(FitData(descriptors))
    before = np.unpackbits(hasher.encode(shifted), axis=1).mean(axis=0)
    hasher.recenter(shifted)
    after = np.unpackbits(hasher.encode(shifted), axis=1).mean(axis=0)
    assert np.abs(after - 0.5).max() < 0.25 < np.abs(before - 0.5).max()
    np.testing.assert_array_equal(hasher.encode(shifted), _fitted(method, descriptors).encode(descriptors))


def _fitted(method, descriptors):
    hasher = method(16)
    hasher.fit(FitData(descriptors))
    return hasher


@pytest.mark.parametrize("method", METHODS)
def test_a_part_of_the_fit_set_can_be_used(method, descriptors):
    whole, part = method(16), method(16, fit_limit=60)
    whole.fit(FitData(descriptors))
    part.fit(FitData(descriptors))
    np.testing.assert_array_equal(part.state_dict()["mean"], whole.state_dict()["mean"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", [0, 7, -8, 12])
def test_code_length_must_be_whole_bytes(method, bits):
    with pytest.raises(InputError, match="multiple of 8"):
        method(bits)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_refused_with_its_row(method, value, descriptors):
    broken = descriptors.copy()
    broken[17, 3] = value
    with pytest.raises(InputError, match="descriptor 17 "):
        method(16).fit(FitData(broken))
    hasher = _fitted(method, descriptors)
    with pytest.raises(InputError, match="descriptor 17 "):
        hasher.encode(broken)


@pytest.mark.parametrize("method", METHODS)
def test_unfit_shapes_and_states_are_refused(method, descriptors):
    with pytest.raises(InputError, match="at least two"):
        method(16).fit(FitData(descriptors[:1]))
    hasher = _fitted(method, descriptors)
    with pytest.raises(InputError, match="40 dimensions"):
        hasher.encode(descriptors[:, :39])
    with pytest.raises(InputError, match="16 bits"):
        method(24).load_state_dict(hasher.state_dict())
    with pytest.raises(RuntimeError, match="fit or load"):
        method(16).encode(descriptors)


@pytest.mark.parametrize("method", [ITQ, PCASign])
def test_principal_axes_must_suffice(method, descriptors):
    with pytest.raises(InputError, match="more than the 40 dimensions"):
        method(48).fit(FitData(descriptors))
    with pytest.raises(InputError, match="16 fit descriptors are too few for bits=16"):
        method(16).fit(FitData(descriptors[:16]))
    method(16).fit(FitData(descriptors[:17]))
    with pytest.raises(InputError, match="too few"):
        method(16).check(dim=40, count=16)
    method(16).check(dim=16, count=17)


def test_lsh_may_have_more_bits_than_dimensions(descriptors):
    hasher = LSH(256)
    hasher.fit(FitData(descriptors))
    assert hasher.encode(descriptors).shape == (120, 32)
