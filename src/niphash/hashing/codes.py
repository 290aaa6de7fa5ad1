"""Packed binary codes: bit j of an image is bit j % 8 (least significant first) of byte j // 8.

Apart from the hashers, so that a search in a collection of codes needs no torch.
"""

import numpy as np


def pack_bits(bits: np.ndarray) -> np.ndarray:
    """Pack [N, bits], where non-zero is a one, to uint8 [N, bits // 8]."""
    return np.packbits(np.asarray(bits) != 0, axis=1, bitorder="little")


def unpack_bits(codes: np.ndarray) -> np.ndarray:
    """Unpack uint8 [N, bits // 8] to uint8 [N, bits] of zeros and ones."""
    return np.unpackbits(np.asarray(codes, np.uint8), axis=1, bitorder="little")
