"""What the parsers return: named queries with their relevant and junk images."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from niphash.data.images import Box
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


def parse_box(values: Sequence[object], where: str | Path) -> Box:
    """Return four numbers (left, top, right, bottom in pixels) as a box.

    Raises:
        InputError: they are not four finite numbers, or enclose nothing.
    """
    try:
        left, top, right, bottom = (float(value) for value in values)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: a box needs four numbers: left top right bottom") from error
    if not all(math.isfinite(edge) for edge in (left, top, right, bottom)) or right <= left or bottom <= top:
        raise InputError(f"{where}: the box {left:g} {top:g} {right:g} {bottom:g} encloses nothing")
    return Box(left, top, right, bottom)
