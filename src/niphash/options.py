"""What numbers and words an option may take, said in one sentence when it is not so."""

from collections.abc import Iterable, Sequence
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any

from niphash.errors import InputError


def check_choice(option: str, value: Any, known: Iterable[Any], *, group: str) -> Any:
    """Return ``value`` when it is one of ``known``, else raise an InputError that lists them."""
    known = tuple(known)
    if value not in known:
        raise InputError(f"{_key(group, option)}={value}: choose one of {', '.join(map(str, known))}")
    return value


def check_number(
    option: str,
    value: Any,
    *,
    group: str,
    least: float = -inf,
    above: float = -inf,
    most: float = inf,
    below: float = inf,
    whole: bool = False,
) -> Any:
    """Return ``value`` when it is a finite number in a range.

    Args:
        option: Its name, for the message.
        value: What the user gave.
        group: Of the option in the configuration.
        least: Smallest number allowed.
        above: Number that it must exceed.
        most: Largest number allowed.
        below: Number that it must stay under.
        whole: Whether it must be an integer.

    Raises:
        InputError: it is no such number.
    """
    kind = Integral if whole else Real
    fits = isinstance(value, kind) and not isinstance(value, bool) and isfinite(value)
    if not (fits and least <= value <= most and above < value < below):
        bounds = {"of at least": least, "above": above, "of at most": most, "below": below}
        range_text = " and ".join(f"{word} {bound}" for word, bound in bounds.items() if isfinite(bound))
        raise InputError(
            f"{_key(group, option)}={value}: give a {'whole ' * whole}number {range_text}".rstrip()
        )
    return value


def check_numbers(option: str, values: Any, *, group: str, **allowed: Any) -> list[Any]:
    """Return ``values`` as a list when it is a sequence of numbers that :func:`check_number` takes.

    Raises:
        InputError: it is no list, or one of them is no such number.
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise InputError(f"{group}.{option}={values}: give a list of numbers, such as {group}.{option}=[1,2]")
    return [check_number(option, value, group=group, **allowed) for value in values]


def _key(group: str, option: str) -> str:
    """Return the option as it is written on a command line; ``group`` is empty at top level."""
    return f"{group}.{option}" if group else option


def check_bits(bits: Any, option: str = "bits") -> int:
    """Return ``bits`` when it is a code length, a positive multiple of 8.

    Raises:
        InputError: it is not; ``option`` is its name for the message.
    """
    if not isinstance(bits, Integral) or isinstance(bits, bool) or bits <= 0 or bits % 8:
        raise InputError(f"{option}={bits}: give a code length that is a positive multiple of 8, such as 64")
    return int(bits)
