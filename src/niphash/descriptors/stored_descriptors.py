"""Descriptors that lie in a store, used as an array that is read when it is asked for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from niphash.descriptors.store import DescriptorStore

#: Descriptors copied at a time when they are read back.
BLOCK_ROWS = 2048


class StoredDescriptors:
    """Descriptors of photos, in a store: read when they are asked for.

    Serves as a read-only float32 array [N, D] (``len``, ``shape``, rows, slices, index arrays,
    ``np.asarray``). The rows of photos that could not be read are NaN.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, store: "DescriptorStore", positions: np.ndarray) -> None:
        self.store, self.positions = store, positions

    @property
    def shape(self) -> tuple[int, int]:
        """N photos, D components."""
        return len(self.positions), self.store.dim

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: "int | slice | list[int] | np.ndarray") -> np.ndarray:
        if isinstance(rows, int | np.integer):
            return self.store.read(self.positions[[rows]])[0]
        return self.store.read(self.positions[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("descriptors of a store are always copied into memory")
        return self.store.read(self.positions).astype(dtype or np.float32, copy=False)

    def blocks(self, rows: int = BLOCK_ROWS, seed: int | None = None) -> Iterator[np.ndarray]:
        """Yield every descriptor once, in blocks float32 [n, D], n <= ``rows``; unreadable photos left out.

        Args:
            rows: Descriptors in memory at a time.
            seed: Of a random order, or ``None``: whole shards are shuffled, and the rows in a block.
        """
        positions = self.positions[self.positions >= 0]
        rng = None if seed is None else np.random.default_rng(seed)
        if rng is not None and len(positions):
            shards = self.store.shard_of(positions)
            positions = positions[np.argsort(rng.permutation(shards.max() + 1)[shards], kind="stable")]
        for start in range(0, len(positions), rows):
            block = positions[start : start + rows]
            yield self.store.read(block if rng is None else rng.permutation(block))
