"""What every encoder offers: local descriptors of an image to one global descriptor."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niphash.errors import InputError


class Encoder(nn.Module, ABC):
    """Encodes the local descriptors of images, batched; everything fitted is a buffer.

    Attributes:
        local_dim: Components that local descriptors are brought to (by PCA) before they are encoded.
        dim: Components D of a global descriptor.
    """

    local_dim: int
    dim: int

    @abstractmethod
    def fit(self, sample: np.ndarray, lengths: list[int]) -> None:
        """Fit on float32 [S, local_dim] local descriptors drawn from many photos.

        Args:
            sample: Photo after photo.
            lengths: How many of them belong to each photo.

        Raises:
            InputError: there are too few of them.
        """

    @abstractmethod
    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        """Return float32 [B, D], L2-normalised.

        Args:
            x: [T, local_dim], the local descriptors of B images one after the other.
            lengths: How many of them belong to each image; an image with none gets :func:`blank`.
        """

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values that determine the output, for the fingerprint."""


def blank(dim: int) -> Tensor:
    """Return float32 [D], the descriptor of an image with no local descriptor.

    All components are -1 / sqrt(D): of length one like the others, below zero in cosine with every bag of
    words, and with the components of a Fisher vector or VLAD, which have both signs, close to zero.
    """
    return torch.full((dim,), -(dim**-0.5))


def finish(encoded: Tensor, lengths: list[int], alpha: float) -> Tensor:
    """Return float32 [B, D]: signed power ``alpha``, then L2; rows of length zero become :func:`blank`.

    Args:
        encoded: [B, D].
        lengths: Number of local descriptors of each image.
        alpha: Exponent; 1 leaves the components as they are (Perronnin et al., ECCV 2010, section 3).
    """
    powered = encoded if alpha == 1 else encoded.sign() * encoded.abs().pow(alpha)
    unit = F.normalize(powered, dim=-1).float()
    # a vector of zeros has no direction: no local descriptor, or all of them on their centres
    nothing = torch.tensor([n == 0 for n in lengths], device=unit.device) | (unit.abs().amax(-1) == 0)
    return torch.where(nothing[:, None], blank(unit.shape[-1]).to(unit.device), unit)


def nearest(x: Tensor, centroids: Tensor) -> Tensor:
    """Return int64 [T], the nearest of [K, D] centroids to each of [T, D] vectors (Euclidean)."""
    # |x - c|^2 less |x|^2, which all centroids share
    return (centroids.square().sum(1) - 2 * x @ centroids.T).argmin(1)


def k_means(sample: np.ndarray, k: int, seed: int, option: str) -> np.ndarray:
    """Return float32 [k, D] centroids of float32 [S, D] vectors: the best of three runs of faiss.

    Args:
        sample: What is clustered.
        k: Number of centroids.
        seed: Of the random first centroids.
        option: The option that asked for ``k``, for the message.

    Raises:
        InputError: fewer vectors than centroids.
    """
    import faiss

    check_enough(len(sample), k, option)
    clustering = faiss.Kmeans(
        sample.shape[1],
        k,
        niter=10,
        nredo=3,
        seed=seed + 1,
        min_points_per_centroid=1,
        max_points_per_centroid=4096,
    )
    clustering.train(np.ascontiguousarray(sample, np.float32))
    assert clustering.centroids is not None
    return clustering.centroids


def check_enough(found: int, parts: int, option: str, each: int = 1) -> None:
    """Raise an :class:`InputError` unless ``found`` local descriptors give each of ``parts`` its share."""
    if found < parts * each:
        raise InputError(
            f"{option}={parts} needs at least {parts * each} local descriptors to fit on, but the fit set "
            f"gave {found}; give more or larger photos (fit.root) or a smaller {option}"
        )


def check_positive(option: str, value: float) -> None:
    """Raise an :class:`InputError` unless ``value`` is above zero."""
    if not value > 0:
        raise InputError(f"{option}={value}: give a number above 0")
