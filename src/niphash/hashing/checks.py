"""What hashing asks of its options and of descriptors, said in one sentence when it is not so."""

from functools import partial

from niphash import options
from niphash.errors import InputError
from niphash.training.rows import Rows

check_choice = partial(options.check_choice, group="hashing")
check_number = partial(options.check_number, group="hashing")
check_numbers = partial(options.check_numbers, group="hashing")
check_bits = options.check_bits


def check_dim(bits: int, dim: int) -> None:
    """Raise an InputError unless descriptors of ``dim`` components have room for ``bits`` bits."""
    if bits > dim:
        raise InputError(
            f"bits={bits} is more than the {dim} dimensions of the descriptor; ask for at most {dim}"
        )


def check_rank(bits: int, dim: int, count: int, method: str) -> None:
    """Raise an InputError unless ``count`` centred [N, ``dim``] descriptors span ``bits`` directions."""
    check_dim(bits, dim)
    if bits >= count:
        raise InputError(
            f"{count} fit descriptors are too few for bits={bits}; {method} needs at least {bits + 1}, "
            "so fit on more photos or ask for fewer bits"
        )


def check_shape(descriptors: Rows, dim: int) -> None:
    """Raise unless ``descriptors`` are [N, dim] and ``dim`` is known, that is, the hasher is fitted."""
    if dim == 0:
        raise RuntimeError("fit or load this hasher before it encodes")
    if len(descriptors.shape) != 2 or descriptors.shape[1] != dim:
        raise InputError(f"descriptors of shape {descriptors.shape} do not fit a hasher of {dim} dimensions")
