"""Penalties on the hidden activations of a batch that make them good bits.

Each takes the logits z [B, H] of a batch (activation q = sigmoid(z)) and returns a scalar to be minimised.
Sources: Hinton, *A practical guide to training RBMs* (2010), section 11; Lin, Morere et al., *DeepHash*
(2017), section 3.2.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

RegularizerName = Literal["none", "sparsity", "rbmh"]
Regularizer = Callable[[torch.Tensor], torch.Tensor]


def no_regularizer(logits: torch.Tensor) -> torch.Tensor:
    """Return 0."""
    return logits.new_zeros(())


def sparsity(logits: torch.Tensor, p: float = 0.5) -> torch.Tensor:
    """Return - sum_j [p log q_j + (1 - p) log(1 - q_j)], q_j the mean activation of unit j over the batch.

    The minimum over q_j is at p: p << 1 makes units sparse, p = 0.5 splits the images in half. A process of a
    distributed run takes the mean over its own share of the batch.
    """
    z = logits.float()
    on, off = (
        F.logsigmoid(signed).logsumexp(0) - math.log(len(z)) for signed in (z, -z)
    )  # log q, log(1 - q)
    return -(p * on + (1 - p) * off).sum()


def rbmh(logits: torch.Tensor) -> torch.Tensor:
    """Return - mean_a sum_j [t_ja log q_ja + (1 - t_ja) log(1 - q_ja)] with t = :func:`uniform_targets`.

    Its gradient with respect to z_ja is (q_ja - t_ja) / B. In a distributed run the targets of a process are
    uniform over its own share of the batch, so a share should hold some tens of images.
    """
    targets = uniform_targets(logits)
    return F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum") / len(logits)


@torch.no_grad()
def uniform_targets(scores: torch.Tensor, sweeps: int = 64) -> torch.Tensor:
    """Map scores [B, H] to targets in (0, 1) that are uniform along every row and along every column.

    The papers leave the construction open; this is ours. Ranks along the batch are uniform for every unit,
    ranks along the units for every image; ranking the ranks along the other axis, in turn, brings the two
    together. As soon as they differ nowhere by more than 1/B + 1/H, their weighted mean is off the uniform
    quantiles by at most 1/B along the batch and 1/H along the units. Some four to ten sweeps do. Random
    jitter below a rank's width breaks ties and deadlocks; without it wide layers never come together.

    Args:
        scores: [B, H], larger wants a larger target.
        sweeps: At most this many alternations.
    """
    batch, units = scores.shape
    cell = 1 / batch + 1 / units
    jitter = _jitter(batch, units, scores.device)
    over_units = uniform_ranks(scores, dim=1)
    for sweep in range(sweeps):
        noise = jitter.of(sweep)
        over_batch = uniform_ranks(over_units + 0.5 * cell * noise, dim=0)
        over_units = uniform_ranks(over_batch + 0.9 / batch * noise.flip(0), dim=1)  # only ties are drawn
        if (over_batch - over_units).abs().max() <= cell:
            break
    weight = units / (batch + units)
    return weight * over_units + (1 - weight) * over_batch


class _Jitter:
    """Numbers in -0.5 .. 0.5, float32 [B, H] for each sweep: the same at every step and on every device."""

    def __init__(self, batch: int, units: int, device: torch.device) -> None:
        self._shape, self._device = (batch, units), device
        self._generator = torch.Generator().manual_seed(0)
        self._drawn: list[torch.Tensor] = []

    def of(self, sweep: int) -> torch.Tensor:
        """Return the numbers of the sweep, counted from 0."""
        while len(self._drawn) <= sweep:
            self._drawn.append((torch.rand(self._shape, generator=self._generator) - 0.5).to(self._device))
        return self._drawn[sweep]


#: Kept, since drawing them takes as long as a step of a small layer.
_jitter = lru_cache(maxsize=4)(_Jitter)


def uniform_ranks(scores: torch.Tensor, dim: int) -> torch.Tensor:
    """Replace scores by (rank + 1/2) / n along ``dim`` of length n; float32."""
    n = scores.shape[dim]
    shape = [1] * scores.dim()
    shape[dim] = n
    quantiles = ((torch.arange(n, device=scores.device) + 0.5) / n).view(shape).expand(scores.shape)
    return torch.empty(scores.shape, device=scores.device).scatter_(dim, _order(scores, dim), quantiles)


def _order(scores: torch.Tensor, dim: int) -> torch.Tensor:
    """Return int64, what sorts the scores along ``dim``, equal ones in their order."""
    if scores.device.type != "cpu":
        return scores.argsort(dim=dim, stable=True)
    # Whole numbers in the order of the scores and then of their places: numpy sorts them several times as
    # fast as torch sorts floats.
    rows = np.ascontiguousarray(np.moveaxis(scores.float().numpy(), dim, -1)) + np.float32(0)
    bits = rows.view(np.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64) << 32
    keys |= np.arange(rows.shape[-1])
    keys.sort(axis=-1)
    keys &= 0xFFFFFFFF
    return torch.from_numpy(np.moveaxis(keys, -1, dim).copy())


def regularizer(name: RegularizerName, p: float = 0.5) -> Regularizer:
    """Return the penalty called ``name``; ``p`` is the target of ``"sparsity"``."""
    penalties: dict[RegularizerName, Regularizer] = {
        "none": no_regularizer,
        "sparsity": partial(sparsity, p=p),
        "rbmh": rbmh,
    }
    return penalties[name]
