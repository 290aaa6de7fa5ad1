"""Exact Hamming search over faiss' IndexBinaryFlat, with a defined order inside ties."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from niphash.errors import InputError
from niphash.search.distances import as_words, hamming
from niphash.search.index import Index

FORMAT = "niphash flat index 1"
_SCAN_ROWS = 65536


class HammingIndex(Index):
    """Exhaustive search: every code is compared with every query.

    Codes are kept in the order of their ids, so that the first rows of a tie are its smallest ids.

    Args:
        bits: Length of a code, a positive multiple of 8.
    """

    def __init__(self, bits: int) -> None:
        if bits < 8 or bits % 8:
            raise InputError(f"bits={bits} is no code length; choose a positive multiple of 8")
        self.bits = bits
        self._faiss: Any = faiss.IndexBinaryFlat(bits)
        self._parts = [np.empty(0, np.int64)]  # ids, ascending over all parts

    def __len__(self) -> int:
        return self._faiss.ntotal

    @property
    def ids(self) -> np.ndarray:
        """int64 [N], the ids held, ascending; not to be written to."""
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]

    def add(self, codes: np.ndarray, ids: np.ndarray) -> None:
        """Add codes under ids.

        Args:
            codes: uint8 [N, bits // 8].
            ids: int64 [N], not negative, none of them in the index already.

        Raises:
            InputError: codes of another length, or an id that is negative or used twice.
        """
        codes, ids = self._checked(codes), np.asarray(ids, np.int64)
        if ids.shape != (len(codes),):
            raise InputError(f"{ids.size} ids for {len(codes)} codes; give one id a code")
        if not len(ids):
            return
        if ids.min() < 0:
            raise InputError(f"id {ids.min()} is negative; -1 stands for 'nothing found'")
        last = self._parts[-1][-1] if len(self) else -1
        if np.all(np.diff(ids, prepend=last) > 0):
            self._faiss.add(codes)
            self._parts.append(ids.copy())
        else:
            self._merge(codes, ids)

    def search(self, codes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest of each query: distances int32 [Q, k] and ids int64 [Q, k].

        Args:
            codes: uint8 [Q, bits // 8].
            k: How many to return; what the index does not hold is distance -1 and id -1.
        """
        codes = self._checked(codes)
        if k < 1:
            raise InputError(f"k={k}; ask for at least one neighbour")
        distances = np.full((len(codes), k), -1, np.int32)
        ids = np.full((len(codes), k), -1, np.int64)
        held = min(k, len(self))
        if held and len(codes):
            # One more than asked for tells whether the k-th place cuts a tie.
            reached, rows = self._faiss.search(codes, min(k + 1, len(self)))
            for query in np.flatnonzero(reached[:, held - 1] == reached[:, -1]) if held < len(self) else ():
                rows[query, :held] = self._resolve(codes[query], rows[query, :held], reached[query, :held])
            order = np.lexsort((rows[:, :held], reached[:, :held]), axis=1)
            distances[:, :held] = np.take_along_axis(reached[:, :held], order, axis=1)
            ids[:, :held] = self.ids[np.take_along_axis(rows[:, :held], order, axis=1)]
        return distances, ids

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, complete or not at all."""
        path = Path(path)
        codes = np.array(self.codes)
        header = {"format": FORMAT, "bits": self.bits, "checksum": _checksum(codes, self.ids)}
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        save_file({"codes": codes, "ids": self.ids}, part, metadata={"niphash": json.dumps(header)})
        part.replace(path)

    @classmethod
    def load(cls, path: Path | str) -> "HammingIndex":
        """Read what :meth:`save` wrote.

        Raises:
            InputError: the file is missing, is no flat index, or is damaged.
        """
        if not Path(path).is_file():
            raise InputError(f"{path}: no such index file")
        try:
            with safe_open(path, framework="numpy") as file:
                header = json.loads((file.metadata() or {}).get("niphash", "null"))
                codes, ids = file.get_tensor("codes"), file.get_tensor("ids")
        except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path}: not an index file ({error}); write one with `niphash index`"
            ) from error
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise InputError(f"{path}: not a flat index of this version; write one with `niphash index`")
        bits = header.get("bits", 0)
        whole = (
            isinstance(bits, int)
            and codes.dtype == np.uint8
            and ids.dtype == np.int64
            and bits > 0
            and codes.shape == (ids.size, bits // 8)
            and header.get("checksum") == _checksum(codes, ids)
        )
        if not whole:
            raise InputError(f"{path}: the index is damaged; write it again with `niphash index`")
        index = cls(bits)
        index.add(codes, ids)
        return index

    def _merge(self, codes: np.ndarray, ids: np.ndarray) -> None:
        """Add codes whose ids do not simply follow the ones held."""
        ids = np.concatenate([self.ids, ids])
        order = np.argsort(ids)
        ids = ids[order]
        twice = ids[1:][ids[1:] == ids[:-1]]
        if twice.size:
            raise InputError(f"id {twice[0]} is used twice; give every code its own id")
        codes = np.concatenate([self.codes, codes])[order]
        self._faiss.reset()
        self._faiss.add(codes)
        self._parts = [ids]

    @property
    def codes(self) -> np.ndarray:
        """uint8 [N, bits // 8], the codes held, in order of id; a view, not to be written to."""
        if not len(self):
            return np.empty((0, self.bits // 8), np.uint8)
        return faiss.rev_swig_ptr(self._faiss.xb.data(), len(self) * self.bits // 8).reshape(len(self), -1)

    def _resolve(self, code: np.ndarray, rows: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """Replace the rows at the last distance by the first ones that lie at it; faiss promises no order."""
        cut = distances == distances[-1]
        wanted = int(cut.sum())
        tied: list[np.ndarray] = []
        for start in range(0, len(self), _SCAN_ROWS):
            block = as_words(self.codes[start : start + _SCAN_ROWS])
            at = start + np.flatnonzero(hamming(as_words(code[None]).T, block.T) == distances[-1])
            tied.append(at[:wanted])
            wanted -= len(tied[-1])
            if not wanted:
                break
        resolved = rows.copy()
        resolved[cut] = np.concatenate(tied)
        return resolved

    def _checked(self, codes: np.ndarray) -> np.ndarray:
        codes = np.asarray(codes)
        if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != self.bits // 8:
            raise InputError(
                f"codes {codes.dtype} {codes.shape} do not fit an index of {self.bits} bits; "
                f"it takes uint8 [N, {self.bits // 8}]"
            )
        return np.ascontiguousarray(codes)


def _checksum(codes: np.ndarray, ids: np.ndarray) -> str:
    digest = hashlib.blake2b(np.ascontiguousarray(codes).data, digest_size=16)
    digest.update(np.ascontiguousarray(ids).data)
    return digest.hexdigest()
