"""Which object a photo shows, told by the folder it lies in: one meaning for evaluation and for pairs."""

from collections.abc import Sequence
from typing import NamedTuple

from niphash.errors import InputError

#: Folders that hold parts of a data set, each with the objects below it.
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


class Objects(NamedTuple):
    """The object of each photo.

    Attributes:
        of: One a photo: the name of its object, ``None`` for a photo that lies in no object's folder.
        splits: Folders above the objects (``train``, ``val``); none where the objects are at the top.
        nested: Number of objects with photos in folders of their own below.
    """

    of: tuple[str | None, ...]
    splits: tuple[str, ...]
    nested: int


def find_objects(names: Sequence[str], where: str) -> Objects:
    """Tell the object of each photo: the first folder of its path, or the second below ``train/``, ``val/``.

    A folder of one name in several splits is one object.

    Args:
        names: Paths relative to the folder of the objects, with ``/``.
        where: That folder, for the message.

    Raises:
        InputError: the folders are splits with no object below them.
    """
    parts = [name.split("/")[:-1] for name in names]
    tops = sorted({folders[0] for folders in parts if folders})
    splits = tuple(tops) if tops and all(top.lower() in SPLITS for top in tops) else ()
    level = 1 if splits else 0
    of = tuple(folders[level] if len(folders) > level else None for folders in parts)
    if splits and not any(of):
        raise InputError(
            f"{where}: {' and '.join(f'{split}/' for split in splits)} are parts of a data set, not objects, "
            "and hold no sub-folders; make one sub-folder an object"
        )
    nested = len({folders[level] for folders in parts if len(folders) > level + 1})
    return Objects(of, splits, nested)
