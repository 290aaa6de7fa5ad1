"""The index inside a collection: made, opened to be searched, opened to be changed."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from niphash.collection.manifest import REMEDY
from niphash.errors import InputError
from niphash.search.dask_index import DaskIndex
from niphash.search.index import Index
from niphash.search.segmented import MultiIndex
from niphash.search.sharded import SHARDS, ShardedIndex
from niphash.search.stored import open_index


class Workers(NamedTuple):
    """Who holds the codes while they are searched.

    The address never comes out of the collection's folder: whoever answers there may run code here.

    Attributes:
        scheduler: Of a Dask cluster whose workers see the collection's folder; ``None``: this process.
        replicas: How many workers hold each code.
    """

    scheduler: str | None = None
    replicas: int = 1


#: This process holds all codes.
HERE = Workers()


def create_codes(folder: Path, bits: int, workers: Workers = HERE) -> None:
    """Make an empty index in place of whatever a killed run left there; a shard for each of the workers."""
    shutil.rmtree(folder, ignore_errors=True)
    if workers.scheduler is None:
        MultiIndex(bits).save(folder)
        return
    with closing(DaskIndex(bits, workers.scheduler)) as index:
        index.save(folder)


def open_codes(folder: Path, bits: int, workers: Workers = HERE, check: bool = False) -> Index:
    """Open the index to search it, in milliseconds.

    Args:
        folder: Of the index.
        bits: Length of the codes that it must hold.
        workers: Who is to hold it.
        check: Read every byte of it.

    Raises:
        InputError: it is missing, damaged, of a newer format, or holds other codes; or no workers answer.
    """
    if not _is_sharded(folder, workers):
        return _checked(open_index(folder, mmap=not check), folder, bits)
    if workers.scheduler is None:
        return _checked(ShardedIndex.open(folder, mmap=not check), folder, bits)
    index = DaskIndex.open(folder, scheduler=workers.scheduler, replicas=workers.replicas)
    return _checked(index, folder, bits)


@contextmanager
def writable_codes(folder: Path, bits: int, workers: Workers = HERE) -> Iterator[Index]:
    """Open the index to change it; a change is on the disk when it returns.

    Raises:
        InputError: as of :func:`open_codes`; or another process is changing it.
    """
    index: Index
    if not _is_sharded(folder, workers):
        index = open_index(folder, write=True)
    elif workers.scheduler is None:
        index = ShardedIndex.open(folder, write=True)
    else:
        index = DaskIndex.open(folder, write=True, scheduler=workers.scheduler)
    with closing(index):
        yield _checked(index, folder, bits)


def _is_sharded(folder: Path, workers: Workers) -> bool:
    sharded = (folder / SHARDS).exists()
    if workers.scheduler is not None and not sharded:
        raise InputError(
            f"{folder}: one index, no shards for the workers of {workers.scheduler}; leave --scheduler away, "
            "or make a new index with it"
        )
    return sharded


def _checked(index: Index, folder: Path, bits: int) -> Index:
    if index.bits != bits:
        raise InputError(f"{folder}: codes of {index.bits} bits in an index of {bits}; {REMEDY}")
    return index
