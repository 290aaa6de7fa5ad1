"""The network of RBM hashing: layers of RBMs, trained or not, from descriptors to projections and bits."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from niphash.hashing.rbm.rbm import RBM, VisibleUnits
from niphash.hashing.rbm.scaling import VisibleScaling


class StackOutput(NamedTuple):
    """What a stack makes of descriptors.

    Attributes:
        activations: P(h = 1 | below) of every layer, bottom first, [B, H_l].
        projection: W z + b of the top layer [B, bits], before any threshold.
    """

    activations: tuple[torch.Tensor, ...]
    projection: torch.Tensor


class Stack(nn.Module):
    """Layers of RBMs over a fitted scaling of the descriptor.

    Buffers: ``mean`` [D], ``scale`` [V] and, where there are some, ``axes`` [V, D] of the fit set, and
    ``threshold`` [bits] of the top projection.

    Args:
        sizes: Visible units V, then the hidden units of every layer: ``(8192, 1024, 64)``.
        visible_units: Of the first layer. ``"binary"``: v = [x > mean]; ``"gaussian"``: see
            :class:`VisibleScaling`. Later layers see activations in (0, 1) and are binary.
        scaling: Of the descriptor; by default mean 0, scale 1 and no axes.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    axes: torch.Tensor | None
    threshold: torch.Tensor
    layers: nn.ModuleList

    def __init__(
        self, sizes: Sequence[int], visible_units: VisibleUnits, scaling: VisibleScaling | None = None
    ) -> None:
        super().__init__()
        self.visible_units = visible_units
        mean, scale, axes = scaling or VisibleScaling(torch.zeros(sizes[0]), torch.ones(sizes[0]))
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.register_buffer("axes", axes)
        self.register_buffer("threshold", torch.zeros(sizes[-1]))
        units: list[VisibleUnits] = [visible_units] + ["binary"] * (len(sizes) - 2)
        self.layers = nn.ModuleList(
            RBM(*around, kind) for around, kind in zip(pairwise(sizes), units, strict=True)
        )

    @property
    def sizes(self) -> list[int]:
        """Visible units, then the hidden units of every layer."""
        return [self.rbms[0].weight.shape[1], *(layer.hidden_bias.numel() for layer in self.rbms)]

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What, beside the tensors, decides what the network computes; plain values."""
        return {"sizes": self.sizes, "visible": self.visible_units}

    @property
    def rbms(self) -> list[RBM]:
        """The layers, bottom first."""
        return cast(list[RBM], list(self.layers))

    def standardise(self, descriptors: torch.Tensor) -> torch.Tensor:
        """Return the visible states [B, V] of the first layer."""
        if self.visible_units == "binary":
            return (descriptors > self.mean).to(descriptors.dtype)
        centred = descriptors - self.mean
        return (centred if self.axes is None else centred @ self.axes.T) / self.scale

    def below(self, depth: int) -> nn.Module:
        """Return the part under layer ``depth`` as a module: descriptors [B, D] to that layer's input."""
        return _Below(self, depth)

    def forward(self, descriptors: torch.Tensor) -> StackOutput:
        """Send descriptors float32 [B, D] through all layers."""
        state = self.standardise(descriptors)
        activations = []
        for layer in self.rbms:
            projection = layer.hidden_logits(state)
            state = torch.sigmoid(projection)
            activations.append(state)
        return StackOutput(tuple(activations), projection)

    def project(self, descriptors: torch.Tensor) -> torch.Tensor:
        """Return the top projection less its threshold, [B, bits]; its signs are the bits."""
        return self(descriptors).projection - self.threshold


#: Turns a network and a batch into a scalar loss and scalars to log.
StackLoss = Callable[[Stack, Any], tuple[torch.Tensor, Mapping[str, torch.Tensor]]]


class _Below(nn.Module):
    def __init__(self, stack: Stack, depth: int) -> None:
        super().__init__()
        self.stack = stack
        self.depth = depth

    def forward(self, descriptors: torch.Tensor) -> torch.Tensor:
        state = self.stack.standardise(descriptors)
        for layer in self.stack.rbms[: self.depth]:
            state = layer(state)
        return state
