"""Names in ranked lists (Holidays result format): how images are written there and found again."""

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import numpy as np

from niphash.data.ground_truth.holidays import RankedList
from niphash.data.task import RetrievalTask
from niphash.errors import InputError


def listed_names(task: RetrievalTask) -> dict[str, str]:
    """Return the name of every image of ``task`` in ranked lists, by its id.

    It is the file name, as the official tools write it; where file names repeat in sub-folders it is the path
    below the data set's folder.
    """
    paths = {name: _with_suffix(name) for name in (*task.database.ids, *task.queries.ids)}
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
