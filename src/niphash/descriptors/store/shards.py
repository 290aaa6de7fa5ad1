"""The files of the descriptor store: written whole, checked before they are read.

A shard is a safetensors file of ``keys`` uint8 [n, 16], ``descriptors`` float [n, D] and ``blank`` bool [n],
the checksums, descriptors and marks of n photos. Its metadata say which describer it is from.
"""

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from niphash.errors import InputError

FORMAT = "niphash descriptors 1"

_LAYOUT = {"keys": ("U8",), "descriptors": ("F32", "F16"), "blank": ("BOOL",)}


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
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{time.time_ns():020d}-{uuid.uuid4().hex}.safetensors"
    unfinished = path.with_suffix(".unfinished")
    try:
        save_file(dict(tensors), unfinished, {"format": FORMAT, "fingerprint": fingerprint})
        _flush_to_disk(unfinished)
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


@contextmanager
def open_shard(path: Path, framework: str, fingerprint: str, dim: int) -> Iterator[Any]:
    """Open a shard whose header has been checked; tensors read as ``pt`` are memory-mapped.

    Args:
        path: The shard.
        framework: ``np`` or ``pt``, what its tensors are returned as.
        fingerprint: Of the describer it must be from.
        dim: Components D that its descriptors must have.

    Raises:
        InputError: it is damaged, or not a shard of this describer.
    """
    try:
        with safe_open(path, framework) as shard:
            if not _is_of(shard, fingerprint, dim):
                raise InputError(f"{path}: not a shard of this descriptor store; move it elsewhere")
            yield shard
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: a damaged shard ({error}); delete it, its photos are described again"
        ) from error


def _is_of(shard: Any, fingerprint: str, dim: int) -> bool:
    metadata = shard.metadata() or {}
    if (metadata.get("format"), metadata.get("fingerprint")) != (FORMAT, fingerprint):
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
