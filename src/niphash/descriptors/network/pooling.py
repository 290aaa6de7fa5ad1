"""Poolings of a feature map: pure functions [B, C, H, W] -> [B, D], and thin modules around them.

A fully connected layer is a map of one position (H = W = 1). Nothing here normalises; the describer does.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6


def flatten(maps: Tensor) -> Tensor:
    """Return [B, C * H * W]: every position of the map (DeepHash, section 3: pool5 as it is)."""
    return maps.flatten(1)


def mean(maps: Tensor) -> Tensor:
    """Return [B, C], the mean over positions (SPoC: Babenko & Lempitsky, ICCV 2015, no centre prior)."""
    return maps.mean((2, 3))


def maximum(maps: Tensor) -> Tensor:
    """Return [B, C], the maximum over positions (MAC: Tolias et al., ICLR 2016, section 3.1)."""
    return maps.amax((2, 3))


def gem(maps: Tensor, p: Tensor | float = 3.0) -> Tensor:
    """Return [B, C], the generalised mean (sum x^p / HW)^(1/p) (GeM: Radenovic et al., TPAMI 2018, eq. 3)."""
    return maps.clamp(min=EPS).pow(p).mean((2, 3)).pow(1.0 / p)


def rmac(maps: Tensor, levels: int = 3) -> Tensor:
    """Return [B, C], the sum of L2-normalised maxima of regions (R-MAC: Tolias et al., ICLR 2016, 3.2)."""
    total = torch.zeros_like(maps[:, :, 0, 0])
    for top, left, side in rmac_regions(maps.shape[2], maps.shape[3], levels):
        total = total + F.normalize(maximum(maps[:, :, top : top + side, left : left + side]))
    return total


def rmac_regions(height: int, width: int, levels: int) -> list[tuple[int, int, int]]:
    """Return the (top, left, side) of R-MAC's square regions, in cells.

    At level l a region's side is 2 min(H, W) / (l + 1); l of them stand along the short side and l + m - 1
    along the long one, m such that neighbours at level 1 overlap by about 40 %.
    """
    short, long = min(height, width), max(height, width)
    extra = 0
    if long > short:
        overlaps = [1 - (long - short) / (steps - 1) / short for steps in range(2, 8)]
        extra = 1 + int(np.argmin([abs(overlap - 0.4) for overlap in overlaps]))
    regions = []
    for level in range(1, levels + 1):
        side = max(1, int(2 * short / (level + 1)))
        along = {short: level, long: level + extra}  # on a square map: level x level
        tops = _starts(height, side, along[height])
        lefts = _starts(width, side, along[width])
        regions += [(top, left, side) for top in tops for left in lefts]
    return regions


def _starts(length: int, side: int, count: int) -> list[int]:
    return (
        [int(start) for start in np.linspace(0, length - side, count)]
        if count > 1
        else [(length - side) // 2]
    )


def crow(maps: Tensor) -> Tensor:
    """Return [B, C], cross-dimensional weighting (CroW: Kalantidis et al., ECCVW 2016, section 3; a = b = 2).

    A position weighs the square root of its L2-normalised channel sum; a channel weighs the logarithm of how
    much rarer than all channels together it is.
    """
    maps = maps.clamp(min=0)
    energy = maps.sum(1, keepdim=True)  # [B, 1, H, W]
    energy = energy / energy.square().sum((2, 3), keepdim=True).sqrt().clamp(min=EPS)
    weighted = (maps * energy.sqrt()).sum((2, 3))  # [B, C]
    occupied = (maps > 0).to(maps.dtype).mean((2, 3))  # [B, C]
    total = occupied.sum(1, keepdim=True) + maps.shape[1] * EPS
    return weighted * torch.log(total / (occupied + EPS))


class Pooling(nn.Module):
    """A map to a descriptor; the base of every ``conf/pooling`` of a network.

    A pooling that looks at an image more than once (:class:`niphash.descriptors.NIP`) overrides the
    members about views; for all others an image has one view, the network's input itself.
    """

    #: How many views of an image one descriptor is pooled from.
    orbit_size: int = 1
    #: How much closer than the whole image a view comes; the canvas is that much larger than a view.
    zoom: float = 1.0

    def __init__(self, function: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.function = function

    def forward(self, maps: Tensor) -> Tensor:
        """Return [B, D] of [B, C, H, W]."""
        assert self.function is not None
        return self.function(maps)

    def dim(self, channels: int, height: int, width: int) -> int:
        """Return D for maps of the given shape."""
        return channels

    def config(self) -> dict[str, object]:
        """Return the plain values that determine the output, beside the parameters."""
        return {"pooling": type(self).__name__}

    def span(self, view_bytes: int) -> int:
        """Return how many views :meth:`views` should make at once, when one is of so many bytes."""
        return 1

    def views(self, canvas: np.ndarray, shape: tuple[int, int], start: int, stop: int) -> np.ndarray:
        """Return the views ``start`` to ``stop`` of one image, uint8 [stop - start, H, W, 3].

        Args:
            canvas: uint8 [H', W', 3], the image as the network would see it, up to ``zoom`` times larger.
            shape: (H, W) of a view.
            start: First view.
            stop: One past the last view.
        """
        return canvas[None]

    def stream(self) -> Callable[[Tensor], Tensor]:
        """Return a function that takes maps [n, C, H, W] of consecutive views, image after image, and returns
        the descriptors [k, D] that became complete with them.
        """
        return self


class Flatten(Pooling):
    """:func:`flatten`."""

    def __init__(self) -> None:
        super().__init__(flatten)

    def dim(self, channels: int, height: int, width: int) -> int:
        """Return D for maps of the given shape."""
        return channels * height * width


class Mean(Pooling):
    """:func:`mean`."""

    def __init__(self) -> None:
        super().__init__(mean)


class Max(Pooling):
    """:func:`maximum`."""

    def __init__(self) -> None:
        super().__init__(maximum)


class GeM(Pooling):
    """:func:`gem` with a learnable exponent ``p``."""

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(float(p)))

    def forward(self, maps: Tensor) -> Tensor:
        """Return [B, C] of [B, C, H, W]."""
        return gem(maps, self.p)


class RMAC(Pooling):
    """:func:`rmac`."""

    def __init__(self, levels: int = 3) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, maps: Tensor) -> Tensor:
        """Return [B, C] of [B, C, H, W]."""
        return rmac(maps, self.levels)

    def config(self) -> dict[str, object]:
        """Return the plain values that determine the output."""
        return {"pooling": "RMAC", "levels": self.levels}


class CroW(Pooling):
    """:func:`crow`."""

    def __init__(self) -> None:
        super().__init__(crow)
