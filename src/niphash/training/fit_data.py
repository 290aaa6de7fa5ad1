"""What a learnable stage learns from."""

from dataclasses import dataclass

import numpy as np

from niphash.training.rows import Rows


@dataclass(frozen=True)
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
