"""What the visible units of an RBM network are made of: descriptors, centred and scaled."""

from typing import Literal, NamedTuple

import numpy as np
import torch

from niphash.hashing.signs import principal_axes
from niphash.training.rows import Rows, fit_moments, sample_rows

Scaling = Literal["auto", "principal", "dimension"]

AXES_PER_BIT = 2
#: Power of the deviation that an axis is divided by: 0 leaves the first axes to decide all bits, 1 makes the
#: last as loud as the first. On held-out views of Caltech photos 0.5 and 0.75 are best, 0 and 1 far behind.
POWER = 0.75
SMALLEST_SHARE = 1e-3  # of the largest deviation; smaller ones are taken for this one
FIT_ROWS = 10_000  # the axes are computed from so many descriptors at most


class VisibleScaling(NamedTuple):
    """v = (x - mean) / scale, or v = axes (x - mean) / scale.

    Attributes:
        mean: float32 [D].
        scale: float32 [V].
        axes: float32 [V, D] orthonormal rows, or ``None``: V = D.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    axes: torch.Tensor | None = None


def axis_count(dim: int, bits: int) -> int:
    """Return how many principal axes a network of so many bits sees."""
    return min(AXES_PER_BIT * bits, dim)


def by_dimension(rows: Rows) -> VisibleScaling:
    """Divide every dimension of rows [N, D] by its own standard deviation."""
    mean, scale = fit_moments(rows)
    return VisibleScaling(torch.from_numpy(mean), torch.from_numpy(scale))


def by_principal_axis(rows: Rows, count: int, seed: int) -> VisibleScaling:
    """Divide the first ``count`` principal axes of rows [N, D] by :data:`POWER` of their deviations.

    The units have a mean variance of one, and keep the order of the axes.
    """
    mean, _ = fit_moments(rows)
    centred = sample_rows(rows, FIT_ROWS, seed) - mean
    axes = principal_axes(centred, count, seed).T
    deviation = (centred @ axes.T).std(0, dtype=np.float64)
    deviation = np.maximum(deviation, SMALLEST_SHARE * deviation.max(initial=0) or 1.0)
    scale = deviation**POWER
    scale *= np.sqrt(np.mean((deviation / scale) ** 2))
    return VisibleScaling(
        torch.from_numpy(mean),
        torch.from_numpy(scale.astype(np.float32)),
        torch.from_numpy(np.ascontiguousarray(axes)),
    )
