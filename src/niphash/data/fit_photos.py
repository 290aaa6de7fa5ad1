"""Photos to fit on: any folder, a random part of it, and pairs of photos known to match."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from niphash.data.ground_truth.tables import read_pair_rows
from niphash.data.images import ImageSet
from niphash.data.names import NameTable
from niphash.data.objects import find_objects
from niphash.data.survey import image_files
from niphash.errors import InputError

#: Each photo of a class folder is paired with so many that follow it: all pairs of a folder of four.
REACH = 3


def fit_images(root: Path, limit: int | None = None, seed: int = 0) -> ImageSet:
    """Return the photos under ``root``, sub-folders included (an ImageNet tree, a flat folder, ...).

    Args:
        root: The folder.
        limit: Number of photos to draw at random; all when it is ``None`` or there are fewer.
        seed: Determines the draw.

    Raises:
        InputError: the folder is missing or holds no photo, or ``limit`` is not positive.
    """
    return random_subset(ImageSet.from_folder(root), limit, seed)


def random_subset(images: ImageSet, limit: int | None = None, seed: int = 0) -> ImageSet:
    """Return ``limit`` photos drawn at random without repeats, in their old order.

    Raises:
        InputError: ``limit`` is not positive.
    """
    if limit is not None and limit < 1:
        raise InputError(f"fit.limit={limit}: the number of photos to fit on must be positive")
    if limit is None or limit >= len(images):
        return images
    rows = np.random.default_rng(seed).choice(len(images), size=limit, replace=False)
    return images.subset(np.sort(rows).tolist())


def matching_pairs(path: Path, root: Path | None = None) -> tuple[ImageSet, np.ndarray]:
    """Read a list of matching photos: a CSV of two columns, or a landmark pair list (two names a line).

    Args:
        path: The file, see :func:`niphash.data.ground_truth.tables.read_pair_rows`.
        root: Folder to which the names are relative; by default the folder of the file.

    Returns:
        The photos named, each once, in order of name; int64 [P, 2], rows of them that match.

    Raises:
        InputError: a malformed line, a photo paired with itself, or photos that are not there.
    """
    folder = path.parent if root is None else root
    rows = read_pair_rows(path)
    names = sorted({name for _, first, second in rows for name in (first, second)})
    found = _find_files(folder, names, str(path))
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of the {len(names)} photos it names are not in {folder}, the first is "
            f"{missing[0][:80]!r}; set fit.root to the folder the names are relative to"
        )
    for line, first, second in rows:
        if found[first] == found[second]:
            raise InputError(f"{path}, line {line}: {first!r} is paired with itself")
    ids = sorted(set(found.values()))
    row = {name: i for i, name in enumerate(ids)}
    pairs = np.array([(row[found[first]], row[found[second]]) for _, first, second in rows], np.int64)
    return ImageSet(tuple(ids), tuple(folder / name for name in ids)), pairs


def _find_files(folder: Path, names: list[str], where: str) -> dict[str, str]:
    """Return, for each of ``names`` that is a file in ``folder``, its path there as the disk spells it."""
    found = {name: name for name in names if (folder / name).is_file()}
    if len(found) == len(names):
        return found
    here = [path.relative_to(folder).as_posix() for path in image_files(folder)]
    table = NameTable(here)
    for name in names:
        if name not in found and (row := table.find(name, where)) is not None:
            found[name] = here[row]
    return found


def class_folder_pairs(images: ImageSet) -> np.ndarray:
    """Return int64 [P, 2]: photos of one object match, each with the next three of the object.

    What is an object is told as for ``data=folder`` (:func:`niphash.data.objects.find_objects`).

    Args:
        images: Photos named by relative path, as :meth:`ImageSet.from_folder` names them.

    Raises:
        InputError: there are fewer than two objects with photos, or none with two photos.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(find_objects(images.ids, "fit.root").of):
        if name is not None:
            members[name].append(row)
    pairs = [
        (first, second)
        for rows in members.values()
        for position, first in enumerate(rows)
        for second in rows[position + 1 : position + 1 + REACH]
    ]
    if len(members) < 2 or not pairs:
        raise InputError(
            "fit.pairs=folders needs at least two sub-folders (classes) in fit.root, one of them with two "
            f"photos; found {len(members)} sub-folders and {len(images)} photos"
        )
    return np.array(pairs, np.int64)
