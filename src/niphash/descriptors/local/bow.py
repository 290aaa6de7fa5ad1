"""Bags of visual words (Sivic & Zisserman, ICCV 2003): the baseline."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from niphash.descriptors.local.encoders import Encoder, check_positive, finish, k_means, nearest


def histogram(words: Tensor, lengths: list[int], size: int) -> Tensor:
    """Return float64 [B, size], how often each word occurs in each image.

    Args:
        words: int64 [T], image after image.
        lengths: Number of words of each of the B images; they sum to T.
        size: Number of words there are.
    """
    return torch.stack([torch.bincount(own, minlength=size) for own in words.split(lengths)]).double()


class BagOfWords(Encoder):
    """Term frequency times inverse document frequency, L2.

    Args:
        local_dim: PCA components of a local descriptor.
        words: Number of k-means centroids, the components of a descriptor.
        seed: Of the k-means.
    """

    centroids: Tensor
    idf: Tensor

    def __init__(self, local_dim: int = 64, words: int = 1024, seed: int = 0) -> None:
        super().__init__()
        check_positive("pooling.local_dim", local_dim)
        check_positive("pooling.words", words)
        self.local_dim, self.dim, self.seed = int(local_dim), int(words), int(seed)
        self.register_buffer("centroids", torch.zeros(self.dim, self.local_dim))
        self.register_buffer("idf", torch.ones(self.dim, dtype=torch.float64))

    def fit(self, sample: np.ndarray, lengths: list[int]) -> None:
        """Cluster float32 [S, local_dim] local descriptors; count in how many photos each word occurs.

        idf = log(N / N_word), where a word that occurs in none of the N samples counts as once.

        Raises:
            InputError: fewer local descriptors than words.
        """
        centroids = torch.from_numpy(k_means(sample, self.dim, self.seed, "pooling.words"))
        occurs = histogram(nearest(torch.from_numpy(sample), centroids), lengths, self.dim) > 0
        idf = (len(lengths) / occurs.sum(0).clamp(min=1).double()).log()
        self.load_state_dict({"centroids": centroids, "idf": idf})

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        """Return float32 [B, dim] of local descriptors [T, local_dim], ``lengths`` of them an image."""
        counts = histogram(nearest(x, self.centroids), lengths, self.dim)
        return finish(counts * self.idf, lengths, 1.0)

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that determine the output."""
        return {"encoder": "bow"}
