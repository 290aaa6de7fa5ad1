"""The index inside a collection: made, opened to be searched, opened to be changed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from niphash.collection.manifest import REMEDY
from niphash.errors import InputError
from niphash.search.index import Index
from niphash.search.segmented import MultiIndex
from niphash.search.stored import StoredIndex, open_index


def create_codes(folder: Path, bits: int) -> None:
    """Make an empty index in place of whatever a killed run left there."""
    shutil.rmtree(folder, ignore_errors=True)
    MultiIndex(bits).save(folder)


def open_codes(folder: Path, bits: int, check: bool = False) -> Index:
    """Open the index to search it, in milliseconds.

    Args:
        folder: Of the index.
        bits: Length of the codes that it must hold.
        check: Read every byte of it.

    Raises:
        InputError: it is missing, damaged, of a newer format, or holds other codes.
    """
    return _checked(open_index(folder, mmap=not check), bits)


@contextmanager
def writable_codes(folder: Path, bits: int) -> Iterator[Index]:
    """Open the index to change it; a change is on the disk when it returns.

    Raises:
        InputError: as of :func:`open_codes`; or another process is changing it.
    """
    with open_index(folder, write=True) as index:
        yield _checked(index, bits)


def _checked(index: StoredIndex, bits: int) -> StoredIndex:
    if index.bits != bits:
        raise InputError(f"{index.folder}: codes of {index.bits} bits in an index of {bits}; {REMEDY}")
    return index
