"""INRIA Holidays: relevance by file name, the list ``holidays_images.dat``, and the result format.

An image is ``NNNNKK.jpg``; NNNN is its group and KK = 00 its query. Jegou, Douze, Schmid, "Hamming embedding
and weak geometric consistency for large scale image search", ECCV 2008.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from niphash.data.ground_truth.text import read_lines
from niphash.errors import InputError

_NAME = re.compile(r"[0-9]{4}([0-9]{2})")


class RankedList(NamedTuple):
    """What a tool answered to one query: image file names, best first."""

    query: str
    images: tuple[str, ...]


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


def read_holidays_results(path: Path) -> tuple[RankedList, ...]:
    """Read ranked lists in the official format: ``<query> <rank> <image> <rank> <image> ...`` a line.

    Ranks need neither start at 0 nor be in order; images are returned in order of rank.

    Raises:
        InputError: a malformed line, a query or, within a list, an image twice; names file and line.
    """
    lists: dict[str, RankedList] = {}
    for number, line in read_lines(path):
        query, *fields = line.split()
        if len(fields) % 2:
            raise InputError(f"{path}, line {number}: expected <query> <rank> <image> <rank> <image> ...")
        if query in lists:
            raise InputError(f"{path}, line {number}: the query {query} has a line already")
        ranked = []
        for rank, image in zip(fields[::2], fields[1::2], strict=True):
            if not (rank.isascii() and rank.isdecimal() and len(rank) <= 12):
                raise InputError(f"{path}, line {number}: {rank[:80]!r} is no rank")
            ranked.append((int(rank), image))
        images = tuple(image for _, image in sorted(ranked))
        if len(set(images)) < len(images):
            raise InputError(f"{path}, line {number}: an image appears twice in the list of {query}")
        lists[query] = RankedList(query, images)
    if not lists:
        raise InputError(f"{path}: holds no ranked list")
    return tuple(lists.values())


def write_holidays_results(path: Path, lists: Iterable[RankedList | tuple[str, Sequence[str]]]) -> None:
    """Write ranked lists so that the official tool (``holidays_map.py``) reads them, ranks from 0.

    Raises:
        InputError: a file name holds white space, which the format cannot carry.
    """
    lines = []
    for query, images in lists:
        for name in (query, *images):
            if not name or len(name.split()) != 1 or name != name.strip():
                raise InputError(
                    f"{name!r}: a file name with white space cannot be written in the Holidays format"
                )
        lines.append(" ".join([query, *(f"{rank} {image}" for rank, image in enumerate(images))]))
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    temporary.replace(path)
