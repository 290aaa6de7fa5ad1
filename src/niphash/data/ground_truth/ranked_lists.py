"""Names in ranked lists (Holidays result format): how images are written there and found again."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from niphash.data.ground_truth.text import read_lines
from niphash.data.names import portable_name
from niphash.data.task import RetrievalTask
from niphash.data.writing import write_whole
from niphash.errors import InputError


class RankedList(NamedTuple):
    """What a tool answered to one query: image file names, best first."""

    query: str
    images: tuple[str, ...]


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
    write_whole(path, "".join(line + "\n" for line in lines))


def listed_names(task: RetrievalTask) -> dict[str, str]:
    """Return the name of every image of ``task`` in ranked lists, by its id.

    It is the file name, as the official tools write it; where file names repeat in sub-folders it is the path
    below the data set's folder, bytes that are not UTF-8 escaped (:func:`niphash.data.names.portable_name`).
    """
    paths = {name: portable_name(_with_suffix(name)) for name in (*task.database.ids, *task.queries.ids)}
    files = {name: PurePosixPath(path).name for name, path in paths.items()}
    return files if len(set(files.values())) == len(files) else paths


def match_lists(task: RetrievalTask, lists: Sequence[RankedList], source: str) -> list[np.ndarray]:
    """Return for each query of the task database numbers, best first (none where no list is given).

    A listed name counts without its folders and suffix where that tells all images apart, else as
    :func:`listed_names` writes it.

    Args:
        task: Whose queries the lists answer.
        lists: Ranked lists.
        source: Their file, for messages.

    Raises:
        InputError: the lists answer no query of the task, or name an image that the database lacks.
    """
    names = listed_names(task)
    key = _key(names, task.database.ids)
    number = {key(names[image]): i for i, image in enumerate(task.database.ids)}
    query_key = _key(names, task.queries.ids)
    answers = {query_key(answer.query): answer.images for answer in lists}
    wanted = [query_key(names[query]) for query in task.queries.ids]
    if not answers.keys() & set(wanted):
        raise InputError(f"{source}: answers no query of {task.name}; set data=<its data set>")
    found = []
    for query in wanted:
        images = answers.get(query, ())
        unknown = next((image for image in images if key(image) not in number), None)
        if unknown is not None:
            raise InputError(f"{source}: {unknown} is no image of {task.name}; set data=<the right data set>")
        found.append(np.array([number[key(image)] for image in images], np.int64))
    return found


def _key(names: dict[str, str], ids: Sequence[str]) -> Callable[[str], str]:
    """Return what makes listed names of the images ``ids`` comparable."""
    stems = {_stem(names[image]) for image in ids}
    return _stem if len(stems) == len(ids) else str


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _with_suffix(name: str) -> str:
    return name if PurePosixPath(name).suffix else f"{name}.jpg"
