"""The text files of Oxford5k and Paris6k: ``<landmark>_<i>_{query,good,ok,junk}.txt``.

A query file holds one line ``<image> <left> <top> <right> <bottom>``, the others one image name a line.
Philbin, Chum, Isard, Sivic, Zisserman, "Object retrieval with large vocabularies and fast spatial matching",
CVPR 2007.
"""

import re
from pathlib import Path

from niphash.data.ground_truth.queries import GroundTruth, QueryTruth, check_labels, parse_box
from niphash.data.ground_truth.text import read_lines
from niphash.errors import InputError

QUERY_SUFFIX = "_query.txt"
#: Oxford's query files put this before the image name.
QUERY_PREFIX = "oxc1_"
MAX_QUERIES = 100_000


def read_oxford_text(folder: Path) -> GroundTruth:
    """Read all queries of ``folder``; good and ok images are relevant, junk is junk.

    Raises:
        InputError: no query file, a query without its other files, or a malformed line; names file and line.
    """
    query_files = sorted(folder.glob("*" + QUERY_SUFFIX), key=_natural)
    if not query_files:
        raise InputError(f"{folder}: no file *{QUERY_SUFFIX} of the official ground truth")
    if len(query_files) > MAX_QUERIES:
        raise InputError(f"{folder}: more than {MAX_QUERIES} query files")
    return GroundTruth(tuple(_read_query(path) for path in query_files))


def _read_query(path: Path) -> QueryTruth:
    lines = read_lines(path)
    if len(lines) != 1 or len(lines[0][1].split()) != 5:
        raise InputError(f"{path}, line 1: expected one line <image> <left> <top> <right> <bottom>")
    image, *edges = lines[0][1].split()
    name = path.name.removesuffix(QUERY_SUFFIX)
    good, ok, junk = (_read_names(path.with_name(f"{name}_{label}.txt")) for label in ("good", "ok", "junk"))
    check_labels((*good, *ok), junk, f"{path.with_name(f'{name}_junk.txt')}, query {name}")
    return QueryTruth(
        name=name,
        image=image.removeprefix(QUERY_PREFIX),
        box=parse_box(edges, f"{path}, line 1, query {name}"),
        relevant=good + ok,
        junk=junk,
    )


def _read_names(path: Path) -> tuple[str, ...]:
    lines = read_lines(path)
    for number, line in lines:
        if len(line.split()) != 1:
            raise InputError(f"{path}, line {number}: expected one image name, found {line[:80]!r}")
    return tuple(line for _, line in lines)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Order ``all_souls_2`` before ``all_souls_10``."""
    return [
        (1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d{1,9})", path.name)
    ]
