"""The flat scan on a device of PyTorch, for many queries at once: evaluation and joins on a GPU."""

from typing import TYPE_CHECKING, Any

import numpy as np

from niphash.errors import InputError
from niphash.hashing.codes import unpack_bits
from niphash.search.flat import FlatSegment
from niphash.search.queries import Queries
from niphash.search.segment import ROW_BITS, Segment, SortedIds, State, empty_keys
from niphash.search.segmented import FlatIndex

if TYPE_CHECKING:
    from niphash.search.files import Content

#: Distances computed at once, 2 to 8 bytes each, and a byte each to choose among them.
PAIRS = 2**26
#: Codes compared first.
FIRST = 4096
NOTHING = 2**63 - 1


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

        ones = unpack_bits(queries.codes)
        weights = np.ones_like(ones, np.int64) if queries.weights is None else queries.weights
        exact = self._exact(queries)
        signed = torch.from_numpy(np.where(ones, -weights, weights)).to(self._device, exact)  # [Q, bits]
        of_zeros = torch.from_numpy((weights * ones).sum(axis=1)).to(self._device, exact)  # [Q]
        keys = torch.from_numpy(empty_keys(limits, k).view(np.int64)).to(self._device)
        start, rows, most = 0, max(k, FIRST), max(k, FIRST, PAIRS // max(len(queries), 1))
        while start < len(self):
            stop = min(start + rows, len(self))
            # the first ones set a bound, below which few of the others lie
            distances = torch.addmm(of_zeros[:, None], signed, self._bits(start, stop, exact).T)  # [Q, n]
            keys = _merged(keys, distances, start)
            start, rows = stop, min(8 * rows, most)
        return np.sort(keys.cpu().numpy().view(np.uint64), axis=1)

    def _exact(self, queries: Queries) -> Any:
        """Return the type whose matrix products are exact, the fastest that the device has."""
        import torch

        if queries.weights is not None:
            return torch.float64  # up to 2**22: more digits than a tensor core keeps of a float32
        return torch.float16 if self._device.type == "cuda" and self.bits <= 2048 else torch.float32

    def _bits(self, start: int, stop: int, exact: Any) -> Any:
        """Return the bits of rows as zeros and ones, [n, bits]."""
        import torch

        shifts = torch.arange(8, dtype=torch.uint8, device=self._device)
        codes = self._codes[start:stop]
        return ((codes[:, :, None] >> shifts) & 1).reshape(len(codes), -1).to(exact)


def _merged(keys: Any, distances: Any, start: int) -> Any:
    """Return the k least of keys int64 [Q, k] and of those of distances [Q, n] to the rows from ``start`` on.

    A row behind all others loses against an equal distance, so only what is nearer than the k-th counts.
    """
    import torch

    k = keys.shape[1]
    query, place = (distances < (keys[:, -1:] >> ROW_BITS).to(distances.dtype)).nonzero(as_tuple=True)
    if not len(query):
        return keys
    counts = torch.bincount(query, minlength=len(keys))
    column = torch.arange(len(query), device=keys.device) - (counts.cumsum(0) - counts)[query]
    found = torch.full((len(keys), int(counts.max())), NOTHING, device=keys.device)
    found[query, column] = (distances[query, place].to(torch.int64) << ROW_BITS) | (place + start)
    return torch.cat([keys, found], dim=1).topk(k, dim=1, largest=False).values


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

    def _take(self, content: "Content") -> None:
        super()._take(content)
        *segments, block = self._state.segments
        on_device = [self.segment(part) for part in segments if isinstance(part, FlatSegment)]
        self._state = State((*on_device, block), self._state.removed)
