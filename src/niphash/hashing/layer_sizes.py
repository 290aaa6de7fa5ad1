"""How many hidden units the layers of a stack have."""

from collections.abc import Sequence
from itertools import pairwise

from niphash.errors import InputError
from niphash.hashing.checks import check_numbers

LARGE_FIT_SET = 20_000


def paper_layers(dim: int, bits: int) -> list[int]:
    """Return the hidden sizes of DeepHash (table 1) for a descriptor of ``dim`` components.

    8192-1024, 8192-4096-256, 8192-4096-2048-64 and 4096-1024, 4096-2048-256, 4096-2048-1024-64 all follow
    one rule: one layer down to an eighth of the input, two down to a 32nd, three below.
    """
    if bits * 8 >= dim:
        return [bits]
    return [dim // 2, bits] if bits * 32 >= dim else [dim // 2, dim // 4, bits]


def default_layers(dim: int, bits: int, count: int) -> list[int]:
    """Return the hidden sizes for ``count`` fit descriptors of ``dim`` components.

    Those of the papers where there is enough to learn them from; below :data:`LARGE_FIT_SET` descriptors
    one layer of an eighth of the input and the bits, 8192-1024-64 as in the authors' slides.
    """
    if count >= LARGE_FIT_SET:
        return paper_layers(dim, bits)
    return [dim // 8, bits] if dim // 8 > bits else [bits]


def with_bits(layers: Sequence[int], bits: int) -> list[int]:
    """Return ``layers`` with ``bits`` as the last.

    Raises:
        InputError: a size is no whole number from 1 on, sizes grow, or ``bits`` exceeds the last size.
    """
    sizes = check_numbers("layers", layers, least=1, whole=True)
    if sizes and bits > sizes[-1]:
        raise InputError(
            f"bits={bits} exceeds the last of hashing.layers={sizes}; give larger layers or fewer bits"
        )
    if any(above > below for below, above in pairwise(sizes)):
        raise InputError(f"hashing.layers={sizes} grows; give sizes that do not increase")
    return sizes if sizes and sizes[-1] == bits else [*sizes, bits]
