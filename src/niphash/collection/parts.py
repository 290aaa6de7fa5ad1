"""The files of a collection's folder, who may write there, and which model its codes are from."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from niphash.collection.manifest import REMEDY
from niphash.data.writing import refuse_links
from niphash.errors import InputError
from niphash.model import CONFIG, DESCRIBER, FIT_SET, HASHER, RECORD, Model

MANIFEST, CODES, MODEL, UPLOADS, LOCK = "photos.sqlite", "codes", "model", "uploads", "lock"
#: Local features of the photos, which geometric re-ranking keeps.
FEATURES = "features"
_PARTS = (MANIFEST, CODES, MODEL, UPLOADS, FEATURES, LOCK)
#: Of a photo index of earlier versions.
FORMER_MANIFEST = "photos.json"


def make_folder(folder: Path) -> None:
    """Make the folder of a new collection.

    Raises:
        InputError: it holds other files, or cannot be written.
    """
    # a process that is killed leaves the last ones
    ours = {*_PARTS, f"{MANIFEST}-journal", f"{MANIFEST}.part", f"{MANIFEST}.part-journal", f"{MODEL}.part"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted({path.name for path in folder.iterdir()} - ours)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder of an index ({error.strerror})") from error
    if foreign:
        raise InputError(f"{folder}: holds other files ({foreign[0]}); name a new folder with --out")


class BusyIndex(InputError):
    """Another process is changing the collection."""


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Be the one who writes.

    Raises:
        BusyIndex: another process is.
        InputError: the folder cannot be written, or leads elsewhere.
    """
    from filelock import FileLock, Timeout

    refuse_links(folder, *(folder / name for name in _PARTS))
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyIndex(
            f"{folder}: another process is changing this index; try again when it is done"
        ) from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); the index is as it was") from error
    try:
        yield
    finally:
        lock.release()


def copy_model(model: Model, folder: Path) -> dict[str, str]:
    """Write the model into a collection's folder, whole or not at all, and return its digests."""
    part = folder / f"{MODEL}.part"
    for leftover in (part, folder / MODEL):
        shutil.rmtree(leftover, ignore_errors=True)
    model.save(part).rename(folder / MODEL)
    return digests(folder / MODEL)


def digests(folder: Path) -> dict[str, str]:
    """Return 32 hexadecimal digits over what a model does (``model``), and what is told of it (``record``).

    Raises:
        InputError: a file of it is missing.
    """
    return {"model": _digest(folder, CONFIG, DESCRIBER, HASHER), "record": _digest(folder, RECORD, FIT_SET)}


def digests_of(model: Model) -> dict[str, str]:
    """Return the digests that a copy of the model would have."""
    with tempfile.TemporaryDirectory() as folder:
        return digests(model.save(Path(folder) / MODEL))


def _digest(folder: Path, *names: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        try:
            digest.update(hashlib.blake2b((folder / name).read_bytes()).digest())
        except OSError as error:
            raise InputError(f"{folder / name}: missing; {REMEDY}") from error
    return digest.hexdigest()
