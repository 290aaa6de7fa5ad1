"""Where photos lie: the folders that a collection knows, and the photos found below them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from niphash.data.images import ImageSet
from niphash.data.survey import Survey


class Place(NamedTuple):
    """A photo's root, its name below it, and the two together."""

    root: Path
    name: bytes
    path: Path


class Scope(NamedTuple):
    """A part of a root that was looked through: the names that begin with ``prefix``."""

    root: Path
    prefix: bytes


class Finds(NamedTuple):
    """What folders hold.

    Attributes:
        places: The photos, each once, ordered by folder and path.
        scopes: What was looked through.
        surveys: What was taken and left out of each folder.
    """

    places: tuple[Place, ...]
    scopes: tuple[Scope, ...]
    surveys: dict[str, Survey]


def photos_below(folders: Sequence[Path | str], roots: Sequence[Path], own: Path) -> Finds:
    """Return the photos of folders; each belongs to the innermost root that contains it.

    Args:
        folders: A folder that lies in no root becomes one itself.
        roots: Known already.
        own: The collection's folder; pictures in it are no photos of a folder around it.

    Raises:
        InputError: a folder is missing or holds no photo.
    """
    found: dict[Path, Place] = {}
    scopes: list[Scope] = []
    surveys = {}
    known = list(roots)
    for folder in folders:
        top = Path(folder).resolve()
        images = ImageSet.from_folder(top)
        around = [root for root in known if top.is_relative_to(root)]
        home = max(around, key=_depth, default=top)
        known += [] if around else [top]
        inner = [
            root for root in known if root != top and root.is_relative_to(top) and own not in root.parents
        ]
        scopes.append(Scope(home, b"" if home == top else os.fsencode(top.relative_to(home)) + b"/"))
        scopes += [Scope(root, b"") for root in inner]
        paths = [path for path in images.sources if isinstance(path, Path) and own not in path.parents]
        found |= {path: place(path, [home, *inner]) for path in paths}
        if images.survey is not None:
            surveys[os.fspath(folder)] = images.survey.leaving_out(
                "in the index itself", len(images) - len(paths)
            )
    return Finds(tuple(found.values()), tuple(scopes), surveys)


def place(path: Path, roots: Sequence[Path]) -> Place:
    """Return where a photo is: its root is the innermost of ``roots`` around it, else its own folder."""
    around = [root for root in roots if path.is_relative_to(root)]
    root = max(around, key=_depth, default=path.parent)
    return Place(root, os.fsencode(path.relative_to(root)), path)


def _depth(path: Path) -> int:
    return len(path.parts)
