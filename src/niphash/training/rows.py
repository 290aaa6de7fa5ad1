"""Descriptors [N, D] of any size: read in blocks, their moments, random rows of them."""

import hashlib
import mmap
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch

from niphash.errors import InputError

BLOCK_ROWS = 4096


class Rows(Protocol):
    """Descriptors [N, D] that are read in parts: an array, a memory map, or those of a store."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, D)``."""

    @property
    def dtype(self) -> np.dtype:
        """float32 or float16."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


class SentByName:
    """What holds ``descriptors`` [N, D]; a spawned process is sent the name of their file in their place."""

    descriptors: Rows

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        array = self.descriptors
        # a process that is spawned opens a whole file map itself; parts and other arrays are sent to it
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.mode == "r":
            state["descriptors"] = (array.filename, array.dtype, array.shape, array.offset)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["descriptors"], tuple):
            name, dtype, shape, offset = state["descriptors"]
            state["descriptors"] = np.memmap(name, dtype, mode="r", offset=offset, shape=shape)
        self.__dict__.update(state)


def blocks(descriptors: Rows, rows: int = BLOCK_ROWS) -> Iterator[np.ndarray]:
    """Yield float32 [<= rows, D] copies of a float array or memory map [N, D], in order.

    Raises:
        InputError: a value is NaN or infinite.
    """
    for start in range(0, len(descriptors), rows):
        block = np.array(descriptors[start : start + rows], np.float32)
        release_pages(descriptors)
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise InputError(
                f"descriptor {row} holds NaN or infinite values; leave out the photo it came from"
            )
        yield block


def memory_map(array: Any) -> mmap.mmap | None:
    """Return the file map that ``array`` is a view of, if it is one."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, mmap.mmap) else None


def release_pages(array: Rows) -> None:
    """Give back the memory of the pages of a memory map that were read; does nothing to other arrays."""
    mapped = memory_map(array)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def check_matrix(descriptors: Rows) -> None:
    """Raise an InputError unless ``descriptors`` are [N, D] and N is at least 2."""
    if len(descriptors.shape) != 2 or len(descriptors) < 2:
        raise InputError(
            f"descriptors of shape {descriptors.shape} cannot be fitted; give at least two rows [N, D]"
        )


def fit_mean(descriptors: Rows) -> np.ndarray:
    """Return the mean, float32 [D], of float [N, D] descriptors, read in blocks.

    Raises:
        InputError: fewer than two descriptors, not a matrix, or a value is NaN or infinite.
    """
    check_matrix(descriptors)
    total = np.zeros(descriptors.shape[1])
    for block in blocks(descriptors):
        total += block.sum(axis=0, dtype=np.float64)
    return (total / len(descriptors)).astype(np.float32)


def fit_moments(descriptors: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation, float32 [D] each, of float [N, D] read in blocks.

    Components that never vary get the deviation 1.

    Raises:
        InputError: fewer than two descriptors, not a matrix, or a value is NaN or infinite.
    """
    check_matrix(descriptors)
    total = np.zeros(descriptors.shape[1])
    squares = np.zeros(descriptors.shape[1])
    for block in blocks(descriptors):
        total += block.sum(0, dtype=np.float64)
        squares += np.square(block, dtype=np.float64).sum(0)
    mean = total / len(descriptors)
    scale = np.sqrt(np.maximum(squares / len(descriptors) - mean**2, 0))
    scale[scale <= 1e-6 * scale.max(initial=0)] = 1.0
    return mean.astype(np.float32), scale.astype(np.float32)


def sample_numbers(count: int, limit: int, seed: int) -> np.ndarray:
    """Return at most ``limit`` of the numbers below ``count``, int64, drawn without repeats and in order."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def sample_rows(descriptors: Rows, limit: int, seed: int) -> np.ndarray:
    """Return float32 copies of at most ``limit`` rows of [N, D], chosen by :func:`sample_numbers`."""
    if len(descriptors) <= limit:
        return np.array(descriptors, np.float32)
    return np.array(descriptors[sample_numbers(len(descriptors), limit, seed)], np.float32)


def evenly_spaced(descriptors: Rows, limit: int) -> torch.Tensor:
    """Return at most ``limit`` rows of [N, D], evenly spaced, as float32 [M, D]."""
    chosen = np.linspace(0, len(descriptors) - 1, min(limit, len(descriptors))).astype(np.int64)
    return torch.from_numpy(np.array(descriptors[chosen], np.float32))


def rows_fingerprint(rows: Rows) -> str:
    """Return 32 hexadecimal digits for the shape, the type and all rows of [N, D], read in blocks.

    Raises:
        InputError: a value is NaN or infinite.
    """
    digest = hashlib.blake2b(f"{rows.shape} {rows.dtype}".encode(), digest_size=16)
    for block in blocks(rows):
        digest.update(block.tobytes())
    return digest.hexdigest()


def tensors_fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return 32 hexadecimal digits for the names, types, shapes and values of ``tensors``."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
