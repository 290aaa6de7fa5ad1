"""Product quantisation: one byte a sub-vector, searched by float distances; for reference."""

import numpy as np
import torch

from niphash.errors import InputError
from niphash.hashing.checks import check_bits, check_number, check_shape
from niphash.hashing.hasher import Hasher
from niphash.training.fit_data import FitData
from niphash.training.rows import Rows, blocks, fit_mean, sample_rows
from niphash.training.trainer import TrainerFactory

CENTROIDS = 256


class PQ(Hasher):
    """Jegou, Douze & Schmid, *Product Quantization for Nearest Neighbor Search* (PAMI 2011).

    The k-means is faiss's. The bytes of a code name centroids, so Hamming distance means nothing on them: use
    :meth:`asymmetric_distances`. A number of dimensions that does not split evenly is padded with zeros.

    Args:
        bits: Length of a code; bits // 8 sub-quantisers of 256 centroids each.
        seed: Seed of the k-means and of the sample.
        fit_limit: Fit on a random sample of at most this many descriptors.
    """

    distances = ("asymmetric",)

    def __init__(self, bits: int, seed: int = 0, fit_limit: int = 20_000) -> None:
        self.bits = check_bits(bits)
        self.seed = seed
        self.fit_limit = check_number("fit_limit", fit_limit, least=CENTROIDS, whole=True)
        self.dim = 0
        self.centroids = torch.empty(bits // 8, CENTROIDS, 0)  # [M, 256, D / M]

    def check(self, dim: int, count: int) -> None:
        """See :meth:`Hasher.check`: every sub-vector needs a component, and its k-means 256 descriptors."""
        if self.bits // 8 > dim:
            raise InputError(f"bits={self.bits} asks for more bytes than the descriptor's {dim} dimensions")
        if min(count, self.fit_limit) < CENTROIDS:
            raise InputError(
                f"{count} fit descriptors are too few for hashing=pq, which needs at least {CENTROIDS}"
            )

    def fit(self, data: FitData, trainer: TrainerFactory | None = None) -> None:
        """See :meth:`Hasher.fit`; only the rows are used."""
        dim = len(fit_mean(data.rows))
        self.check(dim, data.count)
        self.dim = dim
        parts = self._split(sample_rows(data.rows, self.fit_limit, self.seed))  # [N, M, D / M]
        self.centroids = torch.stack(
            [torch.from_numpy(kmeans(part, self.seed)) for part in parts.swapaxes(0, 1)]
        )

    def _split(self, block: np.ndarray) -> np.ndarray:
        """Return float32 [B, M, D / M] from [B, D], zeros appended where D does not split evenly."""
        subspaces = self.bits // 8
        return np.pad(block, ((0, 0), (0, -self.dim % subspaces))).reshape(len(block), subspaces, -1)

    def encode(self, descriptors: Rows) -> np.ndarray:
        """Return uint8 [N, bits // 8]: byte m is the number of the centroid nearest to sub-vector m."""
        check_shape(descriptors, self.dim)
        codes = [self._tables(block).argmin(axis=2) for block in blocks(descriptors, rows=1024)]
        return np.concatenate(codes).astype(np.uint8) if codes else np.empty((0, self.bits // 8), np.uint8)

    def _tables(self, block: np.ndarray) -> np.ndarray:
        """Return squared distances of the sub-vectors of [B, D] to the centroids, float32 [B, M, 256]."""
        parts = torch.from_numpy(self._split(block)).transpose(0, 1)  # [M, B, D / M]
        distances = torch.cdist(parts, self.centroids, compute_mode="donot_use_mm_for_euclid_dist").square()
        return distances.transpose(0, 1).numpy()

    def asymmetric_distances(self, descriptors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return squared Euclidean distances of exact queries to quantised images, float32 [Q, N].

        Args:
            descriptors: Queries, float [Q, D]; give a block of them when N is large.
            codes: uint8 [N, bits // 8] of :meth:`encode`.
        """
        check_shape(descriptors, self.dim)
        distances = np.zeros((len(descriptors), len(codes)), np.float32)
        start = 0
        for block in blocks(descriptors):
            for subspace, table in enumerate(self._tables(block).swapaxes(0, 1)):  # table [B, 256]
                distances[start : start + len(block)] += table[:, codes[:, subspace]]
            start += len(block)
        return distances

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return ``centroids`` float32 [M, 256, D / M] (padded) and ``dim`` int64."""
        return {"centroids": self.centroids, "dim": torch.tensor(self.dim)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` returned.

        Raises:
            InputError: the state belongs to another code length.
        """
        if len(state["centroids"]) * 8 != self.bits:
            raise InputError(
                f"this model makes codes of {len(state['centroids']) * 8} bits, not bits={self.bits}"
            )
        self.dim = int(state["dim"])
        self.centroids = state["centroids"].clone()


def kmeans(points: np.ndarray, seed: int) -> np.ndarray:
    """Return 256 k-means centroids, float32 [256, d], of float32 [N, d] points, N >= 256."""
    import faiss

    clustering = faiss.Kmeans(points.shape[1], CENTROIDS, niter=25, seed=seed, min_points_per_centroid=1)
    clustering.train(np.ascontiguousarray(points))
    return np.asarray(clustering.centroids, np.float32)
