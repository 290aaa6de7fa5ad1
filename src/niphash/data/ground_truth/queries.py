"""What the parsers return: named queries with their relevant and junk images."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from niphash.data.decode import Box
from niphash.errors import InputError


class QueryTruth(NamedTuple):
    """The ground truth of one query by image names (stems of the official file names).

    ``name`` names the query (``all_souls_1``), ``image`` the picture it is cut from.
    """

    name: str
    image: str
    box: Box | None
    relevant: tuple[str, ...]
    junk: tuple[str, ...] = ()


class GroundTruth(NamedTuple):
    """Queries and, where the file lists it, the whole database in official order."""

    queries: tuple[QueryTruth, ...]
    images: tuple[str, ...] | None = None


#: A box with a shorter side, in pixels, is no region to search for; fractions given for pixels are far below.
LEAST_BOX_SIDE = 8


def parse_box(values: Sequence[object], where: str | Path) -> Box:
    """Return four numbers (left, top, right, bottom in pixels) as a box.

    Args:
        values: The numbers, or text that says them.
        where: File, line and query, for messages.

    Raises:
        InputError: they are not four finite numbers, enclose nothing, or a few pixels only.
    """
    try:
        left, top, right, bottom = (float(value) for value in values)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: a box needs four numbers: left top right bottom") from error
    if not all(math.isfinite(edge) for edge in (left, top, right, bottom)) or right <= left or bottom <= top:
        raise InputError(f"{where}: the box {left:g} {top:g} {right:g} {bottom:g} encloses nothing")
    box = Box(left, top, right, bottom)
    if max(abs(edge) for edge in box) <= 1:
        raise InputError(
            f"{where}: the box {left:g} {top:g} {right:g} {bottom:g} is in fractions of the photo; "
            "give left, top, right, bottom in pixels"
        )
    if min(right - left, bottom - top) < LEAST_BOX_SIDE:
        raise InputError(
            f"{where}: the box {left:g} {top:g} {right:g} {bottom:g} is {right - left:g} x {bottom - top:g} "
            f"pixels; give one in pixels with sides of {LEAST_BOX_SIDE} or more"
        )
    return box


def check_labels(relevant: Iterable[object], junk: Iterable[object], where: str) -> None:
    """Refuse photos that are both relevant to a query and junk.

    Args:
        relevant: Names or numbers of photos.
        junk: The same.
        where: File and query, for the message.

    Raises:
        InputError: a photo is in both.
    """
    if both := set(relevant) & set(junk):
        raise InputError(
            f"{where}: {str(min(both, key=str))[:80]!r} is relevant and junk; take it out of one of the two"
        )
