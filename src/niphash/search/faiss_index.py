"""The flat index of faiss behind the same contract, to compare with."""

from typing import Any

import numpy as np

from niphash.search.flat import FlatSegment
from niphash.search.queries import Queries
from niphash.search.segment import ROW_BITS, ROW_MASK, Segment, SortedIds
from niphash.search.segmented import FlatIndex


class FaissSegment(FlatSegment):
    """Codes compared by faiss' IndexBinaryFlat, which keeps a copy of them.

    faiss promises no order inside ties: where the k-th place cuts one, its rows are found by the own scan.
    That scan also answers what faiss has no binary index for, the weighted distance.
    """

    def __init__(self, bits: int, planes: np.ndarray, ids: SortedIds) -> None:
        import faiss

        super().__init__(bits, planes, ids)
        self._faiss: Any = faiss.IndexBinaryFlat(bits)
        self._faiss.add(self.codes(np.arange(len(self))))

    def nearest(self, queries: Queries, k: int, limits: np.ndarray, threads: int | None) -> np.ndarray:
        """Return the nearest codes below a distance; see :meth:`Segment.nearest`."""
        if queries.weights is not None:
            return super().nearest(queries, k, limits, threads)
        # One more than asked for tells whether the k-th place cuts a tie.
        distances, rows = self._faiss.search(queries.codes, min(k + 1, len(self)))
        keys = (distances.astype(np.int64) << ROW_BITS) | (rows & ROW_MASK)
        cut = (
            np.flatnonzero(distances[:, k - 1] == distances[:, -1])
            if k < len(self)
            else np.empty(0, np.int64)
        )
        keys = np.sort(keys, axis=1)[:, :k].view(np.uint64)
        if cut.size:
            keys[cut] = super().nearest(queries[cut], k, limits[cut], threads)
        return keys


class FaissIndex(FlatIndex):
    """Exact Hamming search by faiss, for comparison.

    Args:
        bits: Length of a code, a positive multiple of 8.
        threads: Of the searches that faiss does not do.
    """

    seal_from = 1

    def segment(self, source: FlatSegment) -> Segment:
        """Return the codes of ``source`` in an index of faiss."""
        return FaissSegment(source.bits, source.words(slice(None)), source.ids)
