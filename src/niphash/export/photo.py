"""A photo on a network's input, and the views of it, as tensor operations that a graph can hold.

The product resizes with Pillow and warps with OpenCV. Both are linear along each axis, so a resize is here
a matrix an axis, made from the photo's size inside the graph, and rounded to whole grey levels where the
libraries round.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niphash.descriptors.network.input import MEAN_PIXEL
from niphash.descriptors.network.nip import NIP, crop_offset
from niphash.descriptors.network.pooling import Pooling

#: Views that go through the network together.
BATCH = 16
#: Steps of OpenCV's bilinear coefficients.
COEFFICIENT_STEPS = 2048
#: Of Pillow's, squared.
PILLOW_STEPS = 2048
#: ``reducing_gap`` of :func:`niphash.descriptors.network.input.lay_out`.
REDUCING_GAP = 3.0


class Canvas(NamedTuple):
    """A photo as the network would see it, up to ``zoom`` times larger.

    Attributes:
        pixels: float32 [3, S, S], whole grey levels; the photo fills the first ``side`` rows and columns.
        side: float32 [], in pixels, at most S.
    """

    pixels: Tensor
    side: Tensor


class Layout(nn.Module):
    """A photo to the square that a network looks at, as :func:`niphash.descriptors.network.input.lay_out`.

    Args:
        size: Side of the network's input, pixels.
        mode: ``crop``, ``squash`` or ``pad``.
        zoom: How much larger than ``size`` the square may be.
    """

    def __init__(self, size: int, mode: str, zoom: float) -> None:
        super().__init__()
        self.size, self.mode = size, mode
        self.largest = round(zoom * size)
        self.register_buffer("mean_pixel", torch.tensor(MEAN_PIXEL, dtype=torch.float32)[:, None, None])

    mean_pixel: Tensor

    def forward(self, photo: Tensor) -> Canvas:
        """Return the canvas of a photo uint8 [H, W, 3]."""
        rows, columns = (torch.arange(photo.shape[axis]).double() for axis in (0, 1))
        height, width = rows[-1] + 1, columns[-1] + 1
        shorter, longer = torch.minimum(height, width), torch.maximum(height, width)
        natural = shorter if self.mode == "crop" else longer
        side = natural.clamp(self.size, self.largest)
        pixels = photo.permute(2, 0, 1).float()  # [3, H, W]
        across, down = (
            self._matrix(own, n, shorter, natural, side) for own, n in ((columns, width), (rows, height))
        )
        pixels = filtered(pixels, across)  # [3, H, S]
        pixels = filtered(pixels.transpose(1, 2), down).transpose(1, 2)  # [3, S, S]
        if self.mode == "pad":
            pixels = pixels + self.mean_pixel * (1 - _taken(down)[:, None] * _taken(across))
        return Canvas(pixels, side.float())

    def _matrix(self, own: Tensor, length: Tensor, shorter: Tensor, natural: Tensor, side: Tensor) -> Tensor:
        """Return [S, n], what each row of the canvas takes of the n pixels along an axis of the photo."""
        zero = torch.zeros((), dtype=torch.float64)
        start, taken, target, place = zero, length, side, zero
        if self.mode == "crop":
            start, taken = ((length - shorter) / 2).floor(), shorter
        if self.mode == "pad":
            target = (length * side / natural).round().clamp(min=1)
            place = ((side - target) / 2).floor()
        return shrinking(torch.arange(self.largest).double() - place, own - start, taken, target)


def shrinking(out: Tensor, own: Tensor, length: Tensor, target: Tensor) -> Tensor:
    """Return Pillow's bilinear, anti-aliased resize as a matrix [S, n].

    Args:
        out: Numbers of the S pixels that come out; those outside [0, target) take nothing.
        own: Numbers of the n pixels that go in; those outside [0, length) give nothing.
        length: How many go in.
        target: How many come out.
    """
    factor = (length / target / REDUCING_GAP).floor().clamp(min=1)  # blocks that are averaged first
    block = (own / factor).floor()
    members = torch.minimum(factor, length - block * factor).clamp(min=1)
    scale = length / factor / target
    width = scale.clamp(min=1)
    distance = (block + 0.5)[None] - ((out + 0.5) * scale)[:, None]
    inside = ((own >= 0) & (own < length))[None] & ((out >= 0) & (out < target))[:, None]
    weights = (1 - distance.abs() / width).clamp(min=0) / members * inside  # [S, n]
    return weights / weights.sum(1, keepdim=True).clamp(min=1e-6)  # rows that take nothing


def filtered(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Return pixels [3, ..., n] in whole grey levels by a matrix float64 [S, n], rounded as Pillow rounds.

    Pillow's coefficients are whole numbers of a 2^22th. Their products do not fit into float32, so they are
    split in two halves whose sums do.
    """
    whole = (matrix * PILLOW_STEPS**2 + 0.5).floor()
    high = (whole / PILLOW_STEPS).floor()
    low = whole - high * PILLOW_STEPS
    total = pixels @ high.float().T + (pixels @ low.float().T / PILLOW_STEPS).floor()
    return ((total + PILLOW_STEPS / 2) / PILLOW_STEPS).floor()


def _taken(matrix: Tensor) -> Tensor:
    """Return which pixels that come out take anything, float32 [S] of zeros and ones."""
    return (matrix.sum(1) > 0.5).float()


class Views(nn.Module):
    """A canvas to the views that a pooling looks at, in the order in which it wants them.

    Args:
        pooling: Whose views.
        size: Side of a view, pixels.
        largest: S of the canvas.
    """

    def __init__(self, pooling: Pooling, size: int, largest: int) -> None:
        super().__init__()
        self.size, self.largest = size, largest
        self.orbit = dict(pooling.orbit) if isinstance(pooling, NIP) else {}
        angles = pooling.angles if isinstance(pooling, NIP) and "rotation" in self.orbit else [0.0]
        crops = pooling.crops if isinstance(pooling, NIP) and "scale" in self.orbit else [1.0]
        self.angles, self.crops = angles, crops
        sides = range(size, largest + 1)
        offsets = [[crop_offset(side, part) for side in sides] for part in crops]
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.float32))  # [crops, sides]
        self.register_buffer("mean_pixel", torch.tensor(MEAN_PIXEL, dtype=torch.float32)[:, None, None])

    offsets: Tensor
    mean_pixel: Tensor

    def chunks(self) -> list[list[tuple[int, int, int]]]:
        """Return (rotation, crop, flip) of every view, in order, in chunks that share a batch."""
        views = []
        for digits in product(*(range(members) for members in self.orbit.values())):
            of = dict(zip(self.orbit, digits, strict=True))
            views.append((of.get("rotation", 0), of.get("scale", 0), of.get("flip", 0)))
        return [views[start : start + BATCH] for start in range(0, len(views), BATCH)]

    def forward(self, canvas: Canvas, chunk: Sequence[tuple[int, int, int]]) -> Tensor:
        """Return the views of a chunk, float32 [n, 3, size, size], whole grey levels."""
        turned = {rotation: self._rotated(canvas, self.angles[rotation]) for rotation, _, _ in chunk}
        views = []
        for rotation, crop, flip in chunk:
            view = self._cropped(turned[rotation], canvas.side, crop)
            views.append(view.flip(2) if flip else view)
        return torch.stack(views)

    def _rotated(self, canvas: Canvas, angle: float) -> Tensor:
        """Return the canvas turned about the photo's centre, see ``rotate`` of the module of NIP."""
        if angle == 0:
            return canvas.pixels
        turn = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
        cosine, sine = (float(f(turn)) for f in (torch.cos, torch.sin))
        centre = (canvas.side - 1) / 2
        steps = torch.arange(self.largest).float() - centre
        x, y = steps[None, :], steps[:, None]
        where = torch.stack([centre + cosine * x - sine * y, centre + sine * x + cosine * y], -1)  # [S, S, 2]
        filled = torch.arange(self.largest) < canvas.side
        ground = (canvas.pixels - self.mean_pixel) * (filled[:, None] & filled[None, :])
        grid = where * (2 / (self.largest - 1)) - 1
        turned = F.grid_sample(ground[None], grid[None], padding_mode="zeros", align_corners=True)[0]
        return (turned + self.mean_pixel).round()

    def _cropped(self, pixels: Tensor, side: Tensor, crop: int) -> Tensor:
        """Return the centre at the size of a view, see ``crop_centre`` and ``resize`` there."""
        start = self.offsets[crop].index_select(0, (side - self.size).long()[None])[0]
        return resized(pixels, self.size, start, side - 2 * start)


def resized(pixels: Tensor, size: int, start: Tensor, length: Tensor) -> Tensor:
    """Return the square [start, start + length) of pixels [3, S, S] at ``size``, as OpenCV resizes it.

    Bilinear in whole numbers, with OpenCV's steps of rounding; by area where it shrinks to less than half.
    """
    out, own = torch.arange(size).float(), torch.arange(pixels.shape[-1]).float() - start
    scale = length / size
    inside = ((own >= 0) & (own < length))[None]
    low, high = (out * scale)[:, None], ((out + 1) * scale)[:, None]
    area = (torch.minimum(high, own[None] + 1) - torch.maximum(low, own[None])).clamp(min=0) / scale * inside
    places = torch.minimum(((out + 0.5) * scale - 0.5).clamp(min=0), length - 1)
    first = places.floor()
    share = ((places - first) * COEFFICIENT_STEPS).round()[:, None]
    near = (own[None] == first[:, None]) * (COEFFICIENT_STEPS - share)
    far = (own[None] == first[:, None] + 1) * share
    across = (pixels @ (near + far).T / 16).floor()
    terms = [(rows @ across / 2**16).floor() for rows in (near, far)]
    bilinear = ((terms[0] + terms[1] + 2) / 4).floor()
    return torch.where(length > 2 * size, (area @ (pixels @ area.T)).round(), bilinear)
