"""The files of the descriptor store: written whole, checked before they are read.

A shard is a safetensors file of ``keys`` uint8 [n, 16], ``descriptors`` float [n, D] and ``blank`` bool [n],
the checksums, descriptors and marks of n photos. Its metadata say which describer it is from, and hold a
checksum of the descriptors and one of the rest.
"""

import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from niphash.errors import InputError, writing

#: 1: no checksums in the metadata. 2: with them.
FORMATS = ("niphash descriptors 1", "niphash descriptors 2")

#: What descriptors are written as, by the name that safetensors has for it.
DTYPES = {"F32": "float32", "F16": "float16"}
_LAYOUT = {"keys": ("U8",), "descriptors": tuple(DTYPES), "blank": ("BOOL",)}
#: What has one checksum: it is read at one time.
_PARTS = {"marks": ("keys", "blank"), "descriptors": ("descriptors",)}


class DamagedShard(InputError):
    """A shard that cannot be believed; its photos are described again."""


class Shard(NamedTuple):
    """One file of the store."""

    path: Path
    #: Position in the store of its first descriptor.
    start: int


def shard_paths(folder: Path) -> list[Path]:
    """Return the whole shards in a folder, oldest first."""
    return sorted(folder.glob("*.safetensors"))


def write_shard(folder: Path, fingerprint: str, tensors: Mapping[str, np.ndarray]) -> Path:
    """Write ``keys``, ``descriptors`` and ``blank`` as a new shard and return where it is.

    It gets its name when it is whole and on the disk; no two writers choose one name.

    Raises:
        InputError: it cannot be written.
    """
    path = folder / f"{time.time_ns():020d}-{uuid.uuid4().hex}.safetensors"
    unfinished = path.with_suffix(".unfinished")
    try:
        metadata = {"format": FORMATS[-1], "fingerprint": fingerprint}
        metadata |= {part: _checksum(tensors[name] for name in names) for part, names in _PARTS.items()}
        with writing(folder, "make room there, or name another folder (paths.data_dir, --out)"):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                save_file(dict(tensors), unfinished, metadata)
            except SafetensorError as error:
                raise OSError(None, str(error)) from error
            _flush_to_disk(unfinished)
            unfinished.rename(path)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return path


def set_aside(path: Path) -> None:
    """Rename a damaged shard so that no store finds it again; it stays where nothing may be renamed."""
    with suppress(OSError):
        path.rename(path.with_suffix(".damaged"))


@contextmanager
def open_shard(path: Path, framework: str, fingerprint: str, dim: int) -> Iterator[Any]:
    """Open a shard whose header has been checked; tensors read as ``pt`` are memory-mapped.

    Args:
        path: The shard.
        framework: ``np`` or ``pt``, what its tensors are returned as.
        fingerprint: Of the describer it must be from.
        dim: Components D that its descriptors must have.

    Raises:
        DamagedShard: it is damaged, or not a shard of this describer.
        InputError: it may not be read.
    """
    try:
        with safe_open(path, framework) as shard:
            if not _is_of(shard, fingerprint, dim):
                raise DamagedShard(f"{path}: not a shard of this descriptor store")
            yield shard
    except SafetensorError as error:
        raise DamagedShard(f"{path}: a damaged shard ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); mend that, or delete the file") from error


def check_part(shard: Any, path: Path, part: str) -> None:
    """Compare one part of an open shard, ``marks`` or ``descriptors``, with its checksum.

    Raises:
        DamagedShard: it is another one.
    """
    metadata = shard.metadata()
    if metadata["format"] == FORMATS[0]:
        return  # had no checksums
    if metadata.get(part) != _checksum(np.asarray(shard.get_tensor(name)) for name in _PARTS[part]):
        raise DamagedShard(f"{path}: a damaged shard (its {part} are not those that were written)")


def _checksum(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _is_of(shard: Any, fingerprint: str, dim: int) -> bool:
    metadata = shard.metadata() or {}
    if metadata.get("format") not in FORMATS or metadata.get("fingerprint") != fingerprint:
        return False
    if set(shard.keys()) != _LAYOUT.keys():
        return False
    slices = {name: shard.get_slice(name) for name in _LAYOUT}
    n = slices["blank"].get_shape()[:1]
    shapes = {"keys": [*n, 16], "descriptors": [*n, dim], "blank": [*n]}
    return all(s.get_dtype() in _LAYOUT[name] and s.get_shape() == shapes[name] for name, s in slices.items())


def _flush_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
