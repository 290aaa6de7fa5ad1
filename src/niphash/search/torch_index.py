"""The flat scan on a device of PyTorch, for many queries at once: evaluation and joins on a GPU."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from niphash.errors import InputError
from niphash.hashing.codes import unpack_bits
from niphash.search.flat import FlatSegment
from niphash.search.index import Index, Pairs
from niphash.search.queries import Queries
from niphash.search.segment import ROW_BITS, Segment, SortedIds, State, empty_keys
from niphash.search.segmented import FlatIndex

if TYPE_CHECKING:
    from niphash.search.files import Content

#: Distances computed at once, 8 bytes each and as many again to choose among them.
PAIRS = 2**25


class TorchSegment(FlatSegment):
    """Codes on a device; their distances to a batch of queries are one matrix product a block.

    Bits are zeros and ones. A distance is the query's weight of ones, plus for every one of the code the
    weight of that bit, negative where the query has a one too. All sums are whole numbers that the floats
    hold exactly, with tensor cores too, so answers are those of the other scans.

    Args:
        bits: Length of a code.
        planes: As of :class:`FlatSegment`.
        ids: Of the N codes.
        device: A ``torch.device``.
    """

    def __init__(self, bits: int, planes: np.ndarray, ids: SortedIds, device: Any) -> None:
        import torch

        super().__init__(bits, planes, ids)
        self._device = device
        self._codes = torch.from_numpy(self.codes(np.arange(len(self)))).to(device)

    def nearest(self, queries: Queries, k: int, limits: np.ndarray, threads: int | None) -> np.ndarray:
        """Return the nearest codes below a distance; see :meth:`Segment.nearest`."""
        import torch

        device = self._device
        # Weights up to 2**22 need more digits than a tensor core keeps of a float32; ones do not.
        exact = torch.float32 if queries.weights is None else torch.float64
        ones = unpack_bits(queries.codes)
        weights = np.ones_like(ones, np.int64) if queries.weights is None else queries.weights
        signed = torch.from_numpy(np.where(ones, -weights, weights)).to(device, exact)  # [Q, bits]
        of_zeros = torch.from_numpy((weights * ones).sum(axis=1)).to(device, exact)  # [Q]
        keys = torch.from_numpy(empty_keys(limits, k).view(np.int64)).to(device)
        shifts = torch.arange(8, dtype=torch.uint8, device=device)
        rows = max(k, PAIRS // max(len(queries), 1))
        for start in range(0, len(self), rows):
            codes = self._codes[start : start + rows]
            bits = ((codes[:, :, None] >> shifts) & 1).reshape(len(codes), -1).to(exact)  # [n, bits]
            distances = torch.addmm(of_zeros[:, None], signed, bits.T).to(torch.int64)  # [Q, n]
            places = torch.arange(start, start + len(codes), device=device)
            found = torch.cat([keys, (distances << ROW_BITS) | places], dim=1)
            keys = found.topk(k, dim=1, largest=False).values
        return np.sort(keys.cpu().numpy().view(np.uint64), axis=1)


class TorchIndex(FlatIndex):
    """A flat index whose codes lie on a GPU.

    Args:
        bits: Length of a code, a positive multiple of 8.
        device: Such as ``cuda:0`` or ``cpu``; not given: the GPU where there is one.

    Raises:
        InputError: there is no such device.
    """

    seal_from = 1

    def __init__(self, bits: int, device: str | None = None) -> None:
        import torch

        super().__init__(bits)
        try:
            self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            torch.empty(0, device=self._device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device={device}: there is no such device; choose cuda or cpu") from error

    def segment(self, source: FlatSegment) -> Segment:
        """Return the codes of ``source`` on the device."""
        return TorchSegment(source.bits, source.words(slice(None)), source.ids, self._device)

    def self_join(self, radius: int) -> Iterator[Pairs]:
        """Yield all pairs of codes within ``radius`` bits; a GPU compares them all, a CPU makes tables."""
        return super().self_join(radius) if self._device.type == "cpu" else Index.self_join(self, radius)

    def _take(self, content: "Content") -> None:
        super()._take(content)
        *segments, block = self._state.segments
        on_device = [self.segment(part) for part in segments if isinstance(part, FlatSegment)]
        self._state = State((*on_device, block), self._state.removed)
