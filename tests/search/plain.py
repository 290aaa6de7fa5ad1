"""The answers of a plain scan, and collections of codes to ask about."""

import numpy as np

from niphash.hashing.codes import unpack_bits

DISTRIBUTIONS = ("clustered", "uniform", "biased", "low_rank", "equal")


class PlainIndex:
    """Codes in a dictionary; distances one by one."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.held: dict[int, np.ndarray] = {}

    def add(self, codes, ids) -> None:
        self.held |= dict(zip(ids.tolist(), codes, strict=True))

    def remove(self, ids) -> None:
        for number in set(ids.tolist()):
            del self.held[number]

    def distances(self, query: np.ndarray) -> list[tuple[float, int]]:
        """Return (distance, id) of all, nearest first; a float query is projections."""
        ids = np.array(list(self.held), np.int64)
        if not len(ids):
            return []
        bits = unpack_bits(np.array(list(self.held.values())).reshape(len(ids), -1)).astype(np.int64)
        if query.dtype == np.uint8:
            at = (bits != unpack_bits(query[None]).astype(np.int64)).sum(axis=1)
        else:
            sizes = np.abs(query.astype(np.float64))
            shares = sizes / sizes.sum() if sizes.any() else np.full(len(sizes), 1 / len(sizes))
            weights = np.rint(2**22 * shares).astype(np.int64)
            at = ((bits != (query > 0)) * weights).sum(axis=1)
        return sorted(zip(at.tolist(), ids.tolist(), strict=True))

    def search(self, queries, k, distance="hamming"):
        found = [(self.distances(query) + [(-1, -1)] * k)[:k] for query in queries]
        table = np.array(found, object).reshape(len(queries), k, 2)
        return self.as_reported(table[..., 0].astype(np.int64), distance), table[..., 1].astype(np.int64)

    def as_reported(self, distances, distance):
        if distance == "hamming":
            return distances.astype(np.int32)
        return np.where(distances < 0, -1, (distances * (self.bits / 2**22)).astype(np.float32))


def make_codes(kind: str, n: int, bits: int, rng: np.random.Generator) -> np.ndarray:
    """Return uint8 [n, bits // 8] of a distribution."""
    if kind == "equal":
        return np.repeat(rng.integers(0, 256, (1, bits // 8), np.uint8), n, axis=0)
    if kind == "uniform":
        return rng.integers(0, 256, (n, bits // 8), np.uint8)
    if kind == "biased":
        return np.packbits(rng.random((n, bits), np.float32) < 0.1, axis=1)
    if kind == "low_rank":
        latent = rng.standard_normal((n, 8), np.float32) @ rng.standard_normal((8, bits), np.float32)
        return np.packbits(latent > 0, axis=1)
    centres = rng.integers(0, 256, (max(n // 20, 1), bits // 8), np.uint8)
    return flipped(centres[rng.integers(0, len(centres), n)], 0.08, rng)


def flipped(codes: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return codes with a share of their bits flipped."""
    out = codes.copy()
    for start in range(0, len(codes), 65536):
        part = out[start : start + 65536]
        part ^= np.packbits(rng.random((len(part), 8 * codes.shape[1]), np.float32) < share, axis=1)
    return out
