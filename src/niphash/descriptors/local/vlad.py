"""Vectors of locally aggregated descriptors (Jegou et al., CVPR 2010)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from niphash.descriptors.local.encoders import Encoder, check_positive, finish, k_means, nearest


def vlad(x: Tensor, lengths: list[int], centroids: Tensor) -> Tensor:
    """Return [B, K, D]: per centroid c_k, the sum of x_t - c_k over the x_t whose nearest centroid it is.

    Args:
        x: [T, D] local descriptors, image after image.
        lengths: Number of local descriptors of each of the B images; they sum to T.
        centroids: [K, D].
    """
    encoded = []
    for own in x.split(lengths):
        assigned = nearest(own, centroids)
        members = F.one_hot(assigned, len(centroids)).to(own.dtype)  # [T, K]
        encoded.append(members.T @ (own - centroids[assigned]))  # [K, D]
    return torch.stack(encoded)


class VLAD(Encoder):
    """VLAD with signed power, optional intra-normalisation, and L2.

    Args:
        local_dim: PCA components of a local descriptor.
        centroids: Number K of k-means centroids; the descriptor has K x local_dim components.
        alpha: Exponent of the signed power normalisation.
        intra: L2-normalise each centroid's part (Arandjelovic & Zisserman, CVPR 2013, section 3.2).
        seed: Of the k-means.
    """

    centroids: Tensor

    def __init__(
        self,
        local_dim: int = 64,
        centroids: int = 128,
        alpha: float = 0.5,
        intra: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in {"local_dim": local_dim, "centroids": centroids, "alpha": alpha}.items():
            check_positive(f"pooling.{name}", value)
        self.local_dim, self.alpha, self.intra, self.seed = (
            int(local_dim),
            float(alpha),
            bool(intra),
            int(seed),
        )
        self.dim = self.local_dim * int(centroids)
        self.register_buffer("centroids", torch.zeros(int(centroids), self.local_dim))

    def fit(self, sample: np.ndarray, lengths: list[int]) -> None:
        """Cluster float32 [S, local_dim] local descriptors.

        Raises:
            InputError: fewer local descriptors than centroids.
        """
        centroids = k_means(sample, len(self.centroids), self.seed, "pooling.centroids")
        self.load_state_dict({"centroids": torch.from_numpy(centroids)})

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        """Return float32 [B, dim] of local descriptors [T, local_dim], ``lengths`` of them an image."""
        residuals = vlad(x, lengths, self.centroids)
        if self.intra:
            # the power goes first: a later one would undo the equal lengths
            powered = residuals.sign() * residuals.abs().pow(self.alpha)
            return finish(F.normalize(powered, dim=-1).flatten(1), lengths, 1.0)
        return finish(residuals.flatten(1), lengths, self.alpha)

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that determine the output."""
        return {"encoder": "vlad", "alpha": self.alpha, "intra": self.intra}
