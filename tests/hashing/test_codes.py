import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from niphash.hashing.codes import pack_bits, unpack_bits


def test_bit_j_is_bit_j_mod_8_of_byte_j_div_8_least_significant_first():
    bits = np.random.default_rng(0).integers(0, 2, (5, 24))
    codes = pack_bits(bits)
    assert codes.dtype == np.uint8
    assert codes.shape == (5, 3)
    for image in range(5):
        for j in range(24):
            assert codes[image, j // 8] >> (j % 8) & 1 == bits[image, j]


@given(st.integers(0, 6), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_unpack_undoes_pack(rows, size, seed):
    bits = np.random.default_rng(seed).integers(0, 2, (rows, 8 * size)).astype(bool)
    assert np.array_equal(unpack_bits(pack_bits(bits)), bits)
