"""INRIA Holidays: relevance by file name, the list ``holidays_images.dat``, and the result format.

An image is ``NNNNKK.jpg``; NNNN is its group and KK = 00 its query. Jegou, Douze, Schmid, "Hamming embedding
and weak geometric consistency for large scale image search", ECCV 2008.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from niphash.data.ground_truth.text import read_lines
from niphash.errors import InputError

_NAME = re.compile(r"[0-9]{4}([0-9]{2})")


def holidays_groups(stems: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return ``{query: the other images of its group}`` for the groups whose query is there.

    Args:
        stems: File names without suffix; those that are no Holidays names are passed over.
    """
    names = sorted({stem for stem in stems if _NAME.fullmatch(stem)})
    groups: dict[str, list[str]] = {name: [] for name in names if name.endswith("00")}
    for name in names:
        query = name[:4] + "00"
        if name != query and query in groups:
            groups[query].append(name)
    return {query: tuple(others) for query, others in groups.items()}


def read_holidays_list(path: Path) -> tuple[str, ...]:
    """Read ``holidays_images.dat``: one file name a line; return the names without suffix.

    Raises:
        InputError: a line is no Holidays name; names file and line.
    """
    names = []
    for number, line in read_lines(path):
        stem = line.removesuffix(".jpg")
        if not _NAME.fullmatch(stem):
            raise InputError(
                f"{path}, line {number}: expected a name such as 100000.jpg, found {line[:80]!r}"
            )
        names.append(stem)
    if not names:
        raise InputError(f"{path}: holds no image name")
    return tuple(names)
