"""What a learnable stage learns from."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from niphash.training.rows import Rows, rows_fingerprint


@dataclass(frozen=True, eq=False)
class FitData:
    """Unlabelled descriptors, and what is known of them.

    Attributes:
        rows: float32 or float16 [N, D], an array or a memory map (read in blocks).
        pairs: int64 [P, 2], rows that show the same thing, or ``None`` where that is not known.
        held_out: float [M, D] for curves and stopping rules, never learned from; ``None``: none.
    """

    rows: Rows
    pairs: np.ndarray | None = None
    held_out: Rows | None = None

    @property
    def count(self) -> int:
        """N."""
        return len(self.rows)

    @property
    def dim(self) -> int:
        """D."""
        return self.rows.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits for the rows and the pairs, both in order.

        Raises:
            InputError: a row holds a value that is NaN or infinite.
        """
        if self.pairs is None:
            return rows_fingerprint(self.rows)
        digest = hashlib.blake2b(rows_fingerprint(self.rows).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.pairs, np.int64).tobytes())
        return digest.hexdigest()

    def without_pairs(self) -> "FitData":
        """Return the same rows without what is known to match."""
        return self if self.pairs is None else replace(self, pairs=None)
