"""Penalties on the hidden activations of a batch that make them good bits.

Each takes the logits z [B, H] of a batch (activation q = sigmoid(z)) and returns a scalar to be minimised.
Sources: Hinton, *A practical guide to training RBMs* (2010), section 11; Lin, Morere et al., *DeepHash*
(2017), section 3.2.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch.nn import functional as F

RegularizerName = Literal["none", "sparsity", "rbmh"]
Regularizer = Callable[[torch.Tensor], torch.Tensor]


def no_regularizer(logits: torch.Tensor) -> torch.Tensor:
    """Return 0."""
    return logits.new_zeros(())


def sparsity(logits: torch.Tensor, p: float = 0.5) -> torch.Tensor:
    """Return - sum_j [p log q_j + (1 - p) log(1 - q_j)], q_j the mean activation of unit j over the batch.

    The minimum over q_j is at p: p << 1 makes units sparse, p = 0.5 splits the images in half.
    """
    q = torch.sigmoid(logits.float()).mean(0)
    return F.binary_cross_entropy(q, torch.full_like(q, p), reduction="sum")


def rbmh(logits: torch.Tensor, sweeps: int = 8) -> torch.Tensor:
    """Return - mean_a sum_j [t_ja log q_ja + (1 - t_ja) log(1 - q_ja)] with t = :func:`uniform_targets`.

    Its gradient with respect to z_ja is (q_ja - t_ja) / B.
    """
    targets = uniform_targets(logits, sweeps)
    return F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum") / len(logits)


@torch.no_grad()
def uniform_targets(scores: torch.Tensor, sweeps: int = 8) -> torch.Tensor:
    """Map scores [B, H] to targets in (0, 1) that are uniform along every row and along every column.

    Ranks over the batch are uniform for every unit, ranks over the units for every image; ranking in turn
    along the two moves the matrix towards satisfying both. When they differ by at most 1/B + 1/H, a
    weighted mean of the two misses the uniform quantiles by at most 1/B and 1/H respectively.

    Args:
        scores: [B, H], larger wants a larger target.
        sweeps: At most this many alternations.
    """
    batch, units = scores.shape
    over_units = scores
    for _ in range(sweeps):
        over_batch = uniform_ranks(over_units, dim=0)
        over_units = uniform_ranks(over_batch, dim=1)
        if (over_batch - over_units).abs().max() <= 1 / batch + 1 / units:
            break
    weight = units / (batch + units)
    return weight * over_units + (1 - weight) * over_batch


def uniform_ranks(scores: torch.Tensor, dim: int) -> torch.Tensor:
    """Replace scores by (rank + 1/2) / n along ``dim`` of length n."""
    n = scores.shape[dim]
    order = scores.argsort(dim)
    shape = [1] * scores.dim()
    shape[dim] = n
    quantiles = (torch.arange(n, device=scores.device, dtype=torch.float32) + 0.5) / n
    return torch.empty(scores.shape, device=scores.device).scatter_(
        dim, order, quantiles.view(shape).expand(scores.shape)
    )


def regularizer(name: RegularizerName, p: float = 0.5) -> Regularizer:
    """Return the penalty called ``name``; ``p`` is the target of ``"sparsity"``."""
    penalties: dict[RegularizerName, Regularizer] = {
        "none": no_regularizer,
        "sparsity": partial(sparsity, p=p),
        "rbmh": rbmh,
    }
    return penalties[name]
