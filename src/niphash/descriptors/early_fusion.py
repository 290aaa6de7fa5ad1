"""Early fusion of two describers (``descriptor=fusion``)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from niphash.data.images import ImageSet
from niphash.descriptors.describer import ComposedDescriber, Described, Describer, Skipped, fingerprint
from niphash.errors import InputError


class Fusion(ComposedDescriber):
    """The descriptors of two describers, concatenated with weights alpha and 1 - alpha, then L2.

    Chandrasekhar et al. (arXiv 1508.02496), "early fusion". A photo counts as blank only if both say so.

    Args:
        first: Its descriptor (of length one) is weighted by ``alpha``.
        second: Its descriptor is weighted by 1 - ``alpha``.
        alpha: Strictly between 0 and 1.
    """

    def __init__(self, first: Describer, second: Describer, alpha: float = 0.5) -> None:
        if not 0 < alpha < 1:
            raise InputError(f"descriptor.alpha={alpha}: give a weight between 0 and 1 (both exclusive)")
        self.first, self.second, self.alpha = first, second, float(alpha)

    @property
    def dim(self) -> int:
        """Components of both descriptors together."""
        return self.first.dim + self.second.dim

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits over the fingerprints of both and the weight."""
        parts = [self.first.fingerprint, self.second.fingerprint]
        return fingerprint({"fusion": parts, "alpha": self.alpha}, {}, ())

    def check(self, count: int) -> None:
        """See :meth:`Describer.check`."""
        self.first.check(count)
        self.second.check(count)

    def fit(self, images: ImageSet) -> None:
        """Fit both describers."""
        self.first.fit(images)
        self.second.fit(images)

    def batches(self, images: ImageSet) -> Iterator[Described]:
        """Describe ``images`` in batches of the first describer; each describer reads each photo once."""
        second = _Rows(self.second.batches(images), self.second.dim)
        for batch in self.first.batches(images):
            handled = {*batch.rows.tolist(), *(skip.row for skip in batch.skipped)}
            second.advance(handled)
            rows = [row for row in batch.rows.tolist() if row not in second.skipped]
            kept = batch.descriptors[np.isin(batch.rows, rows)]
            parts = [self.alpha * kept, (1 - self.alpha) * second.take(rows)]
            joined = torch.nn.functional.normalize(torch.from_numpy(np.concatenate(parts, 1)), dim=1).numpy()
            skips = {skip.row: skip for skip in batch.skipped}
            skips |= {row: second.skipped[row] for row in handled & second.skipped.keys()}
            blank = tuple(row for row in batch.blank if row in second.blank)
            yield Described(
                np.array(rows, np.int64), joined, tuple(skips[row] for row in sorted(skips)), blank
            )
            second.forget(handled)

    @property
    def parts(self) -> dict[str, Any]:
        """Both describers."""
        return {"first": self.first, "second": self.second}


class _Rows:
    """Batches of one describer, handed out by row, for a reader whose batches end elsewhere."""

    def __init__(self, batches: Iterator[Described], dim: int) -> None:
        self._batches, self._dim = batches, dim
        self._described: dict[int, np.ndarray] = {}
        self.skipped: dict[int, Skipped] = {}
        self.blank: set[int] = set()

    def advance(self, rows: set[int]) -> None:
        """Draw batches until all of ``rows`` are known."""
        while rows - self._described.keys() - self.skipped.keys():
            batch = next(self._batches)
            self._described |= dict(zip(batch.rows.tolist(), batch.descriptors, strict=True))
            self.skipped |= {skip.row: skip for skip in batch.skipped}
            self.blank |= set(batch.blank)

    def take(self, rows: list[int]) -> np.ndarray:
        """Return float32 [len(rows), D]."""
        return (
            np.stack([self._described[row] for row in rows]) if rows else np.empty((0, self._dim), np.float32)
        )

    def forget(self, rows: set[int]) -> None:
        """Drop what is no longer needed."""
        for row in rows:
            self._described.pop(row, None)
            self.skipped.pop(row, None)
            self.blank.discard(row)
