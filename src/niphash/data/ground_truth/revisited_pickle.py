"""Revisited Oxford and Paris: ``gnd_roxford5k.pkl`` and ``gnd_rparis6k.pkl``.

Radenovic, Iscen, Tolias, Avrithis, Chum, "Revisiting Oxford and Paris: large-scale image retrieval
benchmarking", CVPR 2018.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from niphash.data.decode import Box
from niphash.data.ground_truth.plain_pickle import read_plain_pickle
from niphash.data.ground_truth.queries import check_labels, parse_box
from niphash.errors import InputError

MAX_IMAGES = 10_000_000
MAX_QUERIES = 100_000
MAX_LABELS = 50_000_000


class RevisitedQuery(NamedTuple):
    """A query: image name, box, and indices into the image list, int64 each."""

    image: str
    box: Box
    easy: np.ndarray
    hard: np.ndarray
    junk: np.ndarray


class RevisitedTruth(NamedTuple):
    """The database's image names in official order, and the queries."""

    images: tuple[str, ...]
    queries: tuple[RevisitedQuery, ...]


def read_revisited(path: Path) -> RevisitedTruth:
    """Read a ground-truth file of the revisited benchmark.

    Raises:
        InputError: it is no plain pickle, an entry is missing or malformed; names the query.
    """
    content = read_plain_pickle(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a dict with imlist, qimlist and gnd")
    images = _names(content.get("imlist"), MAX_IMAGES, f"{path}, imlist")
    queries = _names(content.get("qimlist"), MAX_QUERIES, f"{path}, qimlist")
    truths = content.get("gnd")
    if not isinstance(truths, list | tuple) or len(truths) != len(queries):
        raise InputError(f"{path}: gnd must be a list with one entry a query ({len(queries)})")
    labels, found = 0, []
    for number, (image, truth) in enumerate(zip(queries, truths, strict=True)):
        where = f"{path}, query {number}"
        if not isinstance(truth, dict):
            raise InputError(f"{where}: expected a dict with bbx, easy, hard and junk")
        box = truth.get("bbx")
        if not isinstance(box, list | tuple | np.ndarray) or len(box) != 4:
            raise InputError(f"{where}: bbx must hold four numbers")
        easy, hard, junk = (
            _rows(truth.get(label), len(images), f"{where}, {label}") for label in ("easy", "hard", "junk")
        )
        check_labels((*easy.tolist(), *hard.tolist()), junk.tolist(), f"{where}, image number")
        labels += len(easy) + len(hard) + len(junk)
        if labels > MAX_LABELS:
            raise InputError(f"{path}: more than {MAX_LABELS} labels")
        found.append(RevisitedQuery(image, parse_box(list(box), where), easy, hard, junk))
    return RevisitedTruth(images, tuple(found))


def _names(value: Any, limit: int, where: str) -> tuple[str, ...]:
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, list | tuple) or not 0 < len(value) <= limit:
        raise InputError(f"{where}: expected a list of image names")
    if not all(isinstance(name, str) and name for name in value):
        raise InputError(f"{where}: an entry is no image name")
    if len(set(value)) < len(value):
        raise InputError(f"{where}: an image name appears twice")
    return tuple(value)


def _rows(value: Any, count: int, where: str) -> np.ndarray:
    if not isinstance(value, list | tuple | np.ndarray) or len(value) > count:
        raise InputError(f"{where}: expected a list of image numbers")
    try:
        rows = np.asarray(value)
        if rows.size == 0:
            return np.empty(0, np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= count:
            raise ValueError
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{where}: expected numbers from 0 to {count - 1}") from error
    return rows.astype(np.int64)
