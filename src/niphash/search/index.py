"""What every index offers: codes in, nearest ids out."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np


class Index(ABC):
    """Bits to ranked ids. Instantiated from ``conf/index``."""

    #: Length of a code.
    bits: int

    @abstractmethod
    def add(self, codes: np.ndarray, ids: np.ndarray) -> None:
        """Add uint8 [N, bits // 8] codes under int64 [N] ids."""

    @abstractmethod
    def search(self, codes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest of each of uint8 [Q, bits // 8] query codes.

        Returns:
            Hamming distances int32 [Q, k] and ids int64 [Q, k], nearest first, equal distances ordered by id.
            Where the index holds fewer than k codes the rest is distance -1 and id -1.
        """

    @abstractmethod
    def save(self, path: Path | str) -> None:
        """Write the index to one file."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path | str) -> "Index":
        """Read an index file, which is checked before it is believed.

        Raises:
            InputError: the file is no index of this kind, or damaged.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of codes held."""
