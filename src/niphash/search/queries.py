"""Queries in the form that the kernels read: codes, and what each bit counts for."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from niphash.errors import InputError
from niphash.hashing.codes import pack_bits
from niphash.search.distances import TOTAL_WEIGHT, WeightedHammingDistances

if TYPE_CHECKING:
    from niphash.hashing.hasher import DistanceName

#: Distances as integers are below this.
FARTHEST = 2**23 - 1
PLANES = 4  # of rounded weights: 0 .. 15


class Queries:
    """Codes to search for by Hamming distance, or by one that weighs each bit.

    Args:
        codes: uint8 [Q, bits // 8].
        weights: int32 [Q, bits], what a differing bit counts for; ``None``: one each.
    """

    def __init__(self, codes: np.ndarray, weights: np.ndarray | None = None) -> None:
        self.codes, self.weights = codes, weights
        self.bits = 8 * codes.shape[1]

    @classmethod
    def of(cls, queries: np.ndarray, distance: "DistanceName", bits: int) -> "Queries":
        """Check what a caller searches for.

        Args:
            queries: uint8 [Q, bits // 8] codes for ``hamming``, float [Q, bits] projections for
                ``asymmetric``.

        Raises:
            InputError: queries of another type or shape, or projections that are not finite.
        """
        if distance == "hamming":
            return cls(checked_codes(queries, bits))
        if distance != "asymmetric":
            raise InputError(f"distance={distance} is unknown; choose hamming or asymmetric")
        projections = np.asarray(queries)
        if projections.ndim != 2 or projections.shape[1] != bits or projections.dtype.kind != "f":
            raise InputError(
                f"projections {projections.dtype} {projections.shape} do not fit an index of {bits} bits; "
                f"the asymmetric distance takes float [Q, {bits}]"
            )
        if not np.isfinite(projections).all():
            row = int(np.flatnonzero(~np.isfinite(projections).all(axis=1))[0])
            raise InputError(
                f"projections of query {row} are not finite; leave out photos without a descriptor"
            )
        weights = WeightedHammingDistances.weights(projections).astype(np.int32)
        return cls(pack_bits(projections > 0), weights)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, part: slice | np.ndarray) -> "Queries":
        return Queries(self.codes[part], None if self.weights is None else self.weights[part])

    def as_reported(self, distances: np.ndarray) -> np.ndarray:
        """Turn integer distances into bits: int32, or float32 where bits are weighted."""
        if self.weights is None:
            return distances.astype(np.int32)
        return (distances * (self.bits / TOTAL_WEIGHT)).astype(np.float32)

    def as_integers(self, radius: float) -> int:
        """Return the greatest integer distance that is reported as at most ``radius``."""
        if self.weights is None:
            return int(min(radius, FARTHEST - 1))
        guess = int(min(radius * TOTAL_WEIGHT / self.bits, FARTHEST - 2))
        near = np.arange(max(guess - 2, 0), guess + 3)
        return int(near[self.as_reported(near) <= np.float32(radius)].max(initial=0))

    @cached_property
    def words(self) -> np.ndarray:
        """uint64 [Q, W], codes padded with zeros."""
        return padded_words(self.codes)

    @cached_property
    def halves(self) -> np.ndarray:
        """uint16 [Q, bits / 16], codes padded with zeros."""
        return padded(self.codes, 2).view(np.uint16)

    @cached_property
    def half_weights(self) -> np.ndarray:
        """int32 [Q, 16 * halves], or [Q, 0] where bits are not weighted."""
        if self.weights is None:
            return np.zeros((len(self), 0), np.int32)
        width = 16 * self.halves.shape[1]
        return np.pad(self.weights, ((0, 0), (0, width - self.bits)))

    @cached_property
    def units(self) -> np.ndarray:
        """uint64 [Q], what a step of the rounded weights stands for.

        The unit that loses least by rounding down to 15 units at most: a few heavy bits must not make all
        others nothing.
        """
        if self.weights is None:
            return np.ones(len(self), np.uint64)
        weights = self.weights.astype(np.int64)
        largest = weights.max(axis=1, initial=0, keepdims=True)
        candidates = np.maximum(largest // 15 + 1 >> np.arange(6), 1)  # [Q, 6]
        kept = [
            (np.minimum(weights // unit[:, None], 15) * unit[:, None]).sum(axis=1) for unit in candidates.T
        ]
        return np.take_along_axis(candidates, np.argmax(kept, axis=0)[:, None], axis=1)[:, 0].astype(
            np.uint64
        )

    @cached_property
    def masks(self) -> np.ndarray:
        """uint64 [Q, 4, W], bit-planes of the weights in units, rounded down."""
        return padded_words(self._masks.reshape(len(self) * PLANES, -1)).reshape(len(self), PLANES, -1)

    @cached_property
    def half_masks(self) -> np.ndarray:
        """uint16 [Q, 4, bits / 16], the same."""
        halves = padded(self._masks.reshape(len(self) * PLANES, -1), 2).view(np.uint16)
        return halves.reshape(len(self), PLANES, -1)

    @cached_property
    def _masks(self) -> np.ndarray:
        """uint8 [Q, 4, bits // 8]."""
        if self.weights is None:
            return np.zeros((len(self), PLANES, self.codes.shape[1]), np.uint8)
        steps = np.minimum(self.weights // self.units[:, None].astype(np.int64), 15)
        planes = (steps[:, None, :] >> np.arange(PLANES)[:, None]) & 1  # [Q, 4, bits]
        return np.packbits(planes.astype(bool), axis=2, bitorder="little")

    @cached_property
    def byte_tables(self) -> np.ndarray:
        """int32 [Q, 8 * W, 256], the weight of every pattern of differing bits in a byte."""
        assert self.weights is not None
        patterns = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
        width = 64 * self.words.shape[1]
        weights = np.pad(self.weights, ((0, 0), (0, width - self.bits))).reshape(len(self), -1, 8)
        return (weights.astype(np.int64) @ patterns.T.astype(np.int64)).astype(np.int32)


def checked_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return uint8 [N, bits // 8], C-ordered.

    Raises:
        InputError: another type or shape.
    """
    codes = np.asarray(codes)
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != bits // 8:
        raise InputError(
            f"codes {codes.dtype} {codes.shape} do not fit an index of {bits} bits; "
            f"it takes uint8 [N, {bits // 8}]"
        )
    return np.ascontiguousarray(codes)


def padded(codes: np.ndarray, size: int) -> np.ndarray:
    """Pad rows of bytes with zeros to a multiple of ``size`` bytes."""
    missing = -codes.shape[1] % size
    return np.ascontiguousarray(np.pad(codes, ((0, 0), (0, missing))) if missing else codes)


def padded_words(codes: np.ndarray) -> np.ndarray:
    """View uint8 [N, B] as uint64 [N, W], rows padded with zeros."""
    return padded(codes, 8).view(np.uint64)
