"""Principal component analysis, fitted by scikit-learn, applied in torch."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from niphash.errors import InputError


class Principal(NamedTuple):
    """Principal axes of a set of vectors.

    Attributes:
        mean: float32 [D].
        axes: float32 [d, D], orthonormal rows, largest variance first.
        variances: float32 [d].
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor


def fit_pca(x: np.ndarray, dim: int, option: str) -> Principal:
    """Return the first ``dim`` principal axes of float32 [N, D] vectors.

    Raises:
        InputError: ``dim`` is more than D or than N - 1 (the axes that N vectors span); names ``option``.
    """
    from sklearn.decomposition import PCA

    check_pca(dim, x.shape[1], len(x), option)
    pca = PCA(dim, svd_solver="covariance_eigh" if len(x) > x.shape[1] else "full").fit(x)
    return Principal(
        *(
            torch.from_numpy(a.astype(np.float32))
            for a in (pca.mean_, pca.components_, pca.explained_variance_)
        )
    )


def check_pca(dim: int, components: int, count: int, option: str) -> None:
    """Refuse ``dim`` principal axes of ``count`` vectors [``components``] that have not so many.

    Raises:
        InputError: they have not; names ``option``.
    """
    if not 0 < dim <= components:
        raise InputError(f"{option}={dim}: give 1 to {components}, the components of what is reduced")
    if dim > count - 1:
        raise InputError(
            f"{option}={dim} needs at least {dim + 1} vectors to fit on, but the fit set gave {count}"
        )


class PCA(nn.Module):
    """Projection onto principal axes.

    Args:
        in_dim: Components D of a vector.
        out_dim: Components d that are kept.
        option: The option that chose ``out_dim``, for messages.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, in_dim: int, out_dim: int, option: str) -> None:
        super().__init__()
        if not 0 < out_dim <= in_dim:
            raise InputError(f"{option}={out_dim}: give 1 to {in_dim}, the components of what is reduced")
        self.option = option
        self.register_buffer("mean", torch.zeros(in_dim))
        self.register_buffer("axes", torch.eye(out_dim, in_dim))

    def fit(self, x: np.ndarray) -> None:
        """Fit to float32 [N, D].

        Raises:
            InputError: fewer than d + 1 vectors.
        """
        principal = fit_pca(x, len(self.axes), self.option)
        self.load_state_dict({"mean": principal.mean, "axes": principal.axes})

    def forward(self, x: Tensor) -> Tensor:
        """Return [T, d] of [T, D]."""
        return (x - self.mean) @ self.axes.T
