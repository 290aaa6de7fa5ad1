"""The index inside a collection: made, opened for reading, opened for writing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from niphash.errors import InputError
from niphash.search.hamming import HammingIndex


class _Codes:
    """The contract over one file, until the segmented index is here."""

    def __init__(self, folder: Path, bits: int) -> None:
        self.file = folder / "codes.safetensors"
        self.index = HammingIndex.load(self.file)
        self.bits = bits
        if self.index.bits != bits:
            raise InputError(f"{self.file}: codes of {self.index.bits} bits, not {bits}")

    def __len__(self):
        return len(self.index)

    @property
    def ids(self):
        return self.index.ids

    def get(self, ids):
        return np.array(self.index.codes[np.searchsorted(self.index.ids, ids)])

    def add(self, codes, ids):
        self.index.add(codes, ids)
        self.index.save(self.file)

    def remove(self, ids):
        kept = ~np.isin(self.index.ids, ids)
        fresh = HammingIndex(self.bits)
        fresh.add(np.array(self.index.codes[kept]), self.index.ids[kept])
        self.index = fresh
        self.index.save(self.file)

    def _distances(self, queries, distance):
        from niphash.search.distances import HammingDistances, WeightedHammingDistances

        kind = HammingDistances if distance == "hamming" else WeightedHammingDistances
        return kind(queries, self.index.codes)

    def search(self, queries, k, distance="hamming"):
        from niphash.search.exact import search_exhaustively

        at, rows = search_exhaustively(self._distances(queries, distance), k)
        return at, np.where(rows < 0, -1, self.index.ids[rows] if len(self) else -1)

    def range_search(self, queries, radius, max_results=None, distance="hamming"):
        from collections import namedtuple

        at, ids = self.search(queries, max_results or max(1, len(self)), distance)
        keep = (ids >= 0) & (at <= radius)
        offsets = np.concatenate([[0], np.cumsum(keep.sum(1))])
        return namedtuple("N", "offsets distances ids")(offsets, at[keep], ids[keep])

    def self_join(self, radius):
        from collections import namedtuple

        if not len(self):
            return
        found = self.range_search(np.array(self.index.codes), radius)
        left = np.repeat(self.ids, np.diff(found.offsets))
        once = found.ids > left
        yield namedtuple("P", "left right distances")(left[once], found.ids[once], found.distances[once])


def create_codes(folder: Path, bits: int) -> None:
    """Make an empty index."""
    folder.mkdir()
    HammingIndex(bits).save(folder / "codes.safetensors")


def open_codes(folder: Path, bits: int, check: bool = False) -> _Codes:
    """Open for reading."""
    return _Codes(folder, bits)


@contextmanager
def writable_codes(folder: Path, bits: int) -> Iterator[_Codes]:
    """Open for writing."""
    yield _Codes(folder, bits)
