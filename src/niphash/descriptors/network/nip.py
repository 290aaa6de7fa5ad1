"""Nested Invariance Pooling: moments over the orbits of nested groups (Morere et al., ICMR 2017, section 3).

For a group G of m sampled transforms g_j and a feature f_i of image x, the moment of order n is
X_{G,i,n}(x) = (1/m sum_j f_i(g_j x)^n)^(1/n). A nest takes the moment over one group after the other, the
innermost first; each level sees only what the level inside it hands on.

Groups that change the image (rotation, scale, flip) make an orbit of views that stream through the
backbone; groups that act on the map (translation, region, region_size) work on each map as it comes. A level
is a stream too: it takes values [n, ...] as they arrive and hands on one value for each complete orbit, so
that no more than one running total a level is ever held. Rotations and centre crops commute, so a view is
always cut out of the rotated image, whichever of the two groups lies inside the other.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from niphash.descriptors.network.input import MEAN_PIXEL
from niphash.descriptors.network.pooling import EPS, Pooling
from niphash.errors import InputError

#: Groups that change the image, and groups that act on the map.
IMAGE_GROUPS = ("rotation", "scale", "flip")
MAP_GROUPS = ("translation", "region", "region_size")
#: A group that needs another one inside it.
INSIDE = {"region": "translation", "region_size": "region"}

#: Bytes of views made at once, and of rotated images that wait for their other crops.
SPAN_BYTES = 8 * 2**20
ROTATED_BYTES = 32 * 2**20


class Moment(Protocol):
    """A moment of values f_1 ... f_m, in three steps so that the values need not be there together."""

    def gather(self, values: Tensor, dim: int) -> Tensor:
        """Return the running total of the values along ``dim`` (0, or counted from 0)."""
        ...

    def join(self, total: Tensor, other: Tensor) -> Tensor:
        """Return the running total of both."""
        ...

    def finish(self, total: Tensor, m: int) -> Tensor:
        """Return the moment of the m values in ``total``."""
        ...


class Power:
    """(1/m sum_j f_j^n)^(1/n): the mean (n = 1), the root mean square (n = 2), GeM (any n, above 0)."""

    def __init__(self, n: float) -> None:
        self.n = n

    def gather(self, values: Tensor, dim: int) -> Tensor:
        """Return sum_j f_j^n."""
        positive = values if self.n in (1, 2) else values.clamp(min=EPS)
        return positive.pow(self.n).sum(dim)

    def join(self, total: Tensor, other: Tensor) -> Tensor:
        """Return the sum of two sums."""
        return total + other

    def finish(self, total: Tensor, m: int) -> Tensor:
        """Return (total / m)^(1/n)."""
        return (total / m).pow(1 / self.n)


class Maximum:
    """max_j f_j, the limit n -> infinity."""

    def gather(self, values: Tensor, dim: int) -> Tensor:
        """Return the maximum along ``dim``."""
        return values.amax(dim)

    def join(self, total: Tensor, other: Tensor) -> Tensor:
        """Return the larger of two maxima."""
        return torch.maximum(total, other)

    def finish(self, total: Tensor, m: int) -> Tensor:
        """Return the maximum."""
        return total


class Deviation:
    """sqrt(1/m sum_j (f_j - mean)^2), the centred S of Morere et al., 2016 (1601.02093)."""

    def gather(self, values: Tensor, dim: int) -> Tensor:
        """Return sum_j f_j and sum_j f_j^2, along a new last dimension, in double precision."""
        values = values.double()
        return torch.stack([values.sum(dim), values.square().sum(dim)], -1)

    def join(self, total: Tensor, other: Tensor) -> Tensor:
        """Return the sums of two pairs of sums."""
        return total + other

    def finish(self, total: Tensor, m: int) -> Tensor:
        """Return the root of mean square less squared mean."""
        first, second = (total / m).unbind(-1)
        return (second - first.square()).clamp(min=0).sqrt().float()


def moment(name: str, p: float = 3.0) -> Moment:
    """Return the moment of that name: mean, rms, std, max or gem (of order ``p``)."""
    moments: dict[str, Moment] = {
        "mean": Power(1),
        "rms": Power(2),
        "gem": Power(p),
        "max": Maximum(),
        "std": Deviation(),
    }
    if name not in moments:
        raise InputError(f"pooling.nest: no moment {name}; choose from {', '.join(moments)}")
    return moments[name]


def over(values: Tensor, dim: int, moment: Moment) -> Tensor:
    """Return the moment of all values along ``dim``, which is dropped."""
    return moment.finish(moment.gather(values, dim), values.shape[dim])


Level = Callable[[Tensor], Tensor]


class OrbitLevel:
    """The moment over a group of m views that arrive one by one: [n, ...] -> [orbits, ...]."""

    def __init__(self, m: int, moment: Moment) -> None:
        self.m = m
        self.moment = moment
        self.count = 0
        self.total: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """Take the next n values; return the moments of the orbits they complete."""
        complete = []
        ends = tuple(range(self.m - self.count, len(values), self.m))
        for part in values.tensor_split(ends) if len(values) else ():
            total = self.moment.gather(part, 0)
            self.total = total if self.total is None else self.moment.join(self.total, total)
            self.count += len(part)
            if self.count == self.m:
                complete.append(self.moment.finish(self.total, self.m))
                self.count, self.total = 0, None
        return torch.stack(complete) if complete else values[:0]


class Windows:
    """The moment over translations inside square windows of the map: [n, C, H, W] -> [n, C, P].

    The windows of one size follow each other; :attr:`counts` says how many there are of each.
    """

    def __init__(self, sides: Sequence[int], moment: Moment) -> None:
        self.sides = sides
        self.moment = moment
        self.counts: list[int] = []

    def __call__(self, maps: Tensor) -> Tensor:
        """Return one value a window and channel."""
        height, width = maps.shape[2:]
        pooled = []
        for side in self.sides:
            windows = maps.unfold(2, min(side, height), 1).unfold(
                3, min(side, width), 1
            )  # [n, C, h, w, s, s]
            pooled.append(over(windows.flatten(4).flatten(2, 3), 3, self.moment))  # [n, C, h * w]
        self.counts = [values.shape[2] for values in pooled]
        return torch.cat(pooled, 2)


class NIP(Pooling):
    """Nested Invariance Pooling as an image's descriptor.

    Args:
        nest: (group, moment) pairs, innermost first. Groups: ``rotation``, ``scale``, ``flip`` of the image;
            ``translation`` over the positions of the map; ``region`` over its windows (translations are then
            those inside a window) and ``region_size`` over their sizes. Moments: ``mean``, ``rms``, ``std``,
            ``max``, ``gem``. A group that is left out is not pooled over.
        rotations: Rotations, evenly spaced over the full turn.
        scales: Centre crops, geometrically spaced from the whole image to ``smallest``.
        smallest: Side of the smallest crop, as a part of the image's.
        regions: Sides of the windows, in cells of the map.
        p: Order of the moment ``gem``.

    Raises:
        InputError: a group or a moment that does not exist, or a nest that makes no sense.
    """

    def __init__(
        self,
        nest: Sequence[Sequence[str]] = (("scale", "mean"), ("translation", "rms"), ("rotation", "max")),
        rotations: int = 36,
        scales: int = 10,
        smallest: float = 0.5,
        regions: Sequence[int] = (3, 5, 7),
        p: float = 3.0,
    ) -> None:
        super().__init__()
        self.nest = check_nest(nest, p)
        if min(rotations, scales, *regions) < 1 or not regions or not 0 < smallest <= 1 or p <= 0:
            raise InputError(
                f"pooling.rotations={rotations}, .scales={scales}, .smallest={smallest}, .regions={regions}, "
                f".p={p}: give positive numbers, smallest at most 1"
            )
        self.regions, self.p = list(regions), p
        self.angles = [360 * j / rotations for j in range(rotations)]
        self.crops = [smallest ** (j / max(1, scales - 1)) for j in range(scales)]
        members = {"rotation": rotations, "scale": scales, "flip": 2}
        #: The image's groups, outermost first, and their sizes: the digits in which views are numbered.
        self.orbit = {group: members[group] for group, _ in reversed(self.nest) if group in IMAGE_GROUPS}
        self.orbit_size = math.prod(self.orbit.values())
        self.zoom = 1 / self.crops[-1] if "scale" in self.orbit else 1.0

    def span(self, view_bytes: int) -> int:
        """Return how many views to make at once: whole runs of what lies inside a rotation, if they fit."""
        groups = list(self.orbit)
        inner = groups[groups.index("rotation") + 1 :] if "rotation" in groups else groups
        together = math.prod(self.orbit[group] for group in inner)
        fitting = max(1, SPAN_BYTES // view_bytes)
        return fitting // together * together or fitting

    def dim(self, channels: int, height: int, width: int) -> int:
        """Return D: a component a channel where translations are pooled over, else one a cell of the map."""
        over_positions = any(group == "translation" for group, _ in self.nest)
        return channels if over_positions else channels * height * width

    def config(self) -> dict[str, Any]:
        """Return the plain values that determine the output."""
        return {
            "pooling": "NIP",
            **{"nest": self.nest, "angles": self.angles, "crops": self.crops},
            **{"regions": self.regions, "p": self.p, "opencv": cv2.__version__},
        }

    def views(self, canvas: np.ndarray, shape: tuple[int, int], start: int, stop: int) -> np.ndarray:
        """Return views ``start`` to ``stop`` of the orbit, uint8 [stop - start, H, W, 3]."""

        @lru_cache(maxsize=max(1, ROTATED_BYTES // canvas.nbytes))
        def rotated(j: int) -> np.ndarray:
            return rotate(canvas, self.angles[j])

        views = np.empty((stop - start, *shape, 3), np.uint8)
        for view, number in zip(views, range(start, stop), strict=True):
            j = dict(zip(self.orbit, np.unravel_index(number, tuple(self.orbit.values())), strict=True))
            image = crop_centre(rotated(int(j.get("rotation", 0))), self.crops[j.get("scale", 0)])
            view[:] = resize(image, shape)[:, :: -1 if j.get("flip", 0) else 1]
        return views

    def stream(self) -> Level:
        """Return the nest as a stream: maps [n, C, H, W] of consecutive views -> descriptors [k, D]."""
        groups = [group for group, _ in self.nest]
        levels: list[Level] = []
        for group, name in self.nest:
            of = moment(name, self.p)
            if group in self.orbit:
                levels.append(OrbitLevel(self.orbit[group], of))
            elif group == "translation" and "region" in groups:
                windows = Windows(self.regions, of)
                levels.append(windows)
            elif group == "region" and "region_size" in groups:
                levels.append(partial(_over_each, windows=windows, of=of))
            else:
                levels.append(partial(_over_rest, of=of))

        def push(values: Tensor) -> Tensor:
            for level in levels:
                values = level(values)
            return values.flatten(1)

        return push

    def forward(self, maps: Tensor) -> Tensor:
        """Return [B, D] of the maps [B * orbit, C, H, W] of B whole orbits."""
        return self.stream()(maps)


def _over_rest(values: Tensor, of: Moment) -> Tensor:
    """Return [n, C] of [n, C, ...]."""
    return over(values.flatten(2), 2, of)


def _over_each(values: Tensor, windows: Windows, of: Moment) -> Tensor:
    """Return [n, C, K], over the windows of each of K sizes, of [n, C, P] as ``windows`` hands them on."""
    return torch.stack([over(part, 2, of) for part in values.split(windows.counts, 2)], 2)


def check_nest(nest: Sequence[Sequence[str]], p: float) -> list[tuple[str, str]]:
    """Return the nest as plain pairs.

    Raises:
        InputError: it names a group or moment that does not exist, or a group twice or without its inner one.
    """
    pairs = [tuple(pair) for pair in nest]
    if any(len(pair) != 2 for pair in pairs):
        raise InputError(
            f"pooling.nest={pairs}: write pairs of a group and a moment, as [[scale,mean],[rotation,max]]"
        )
    groups = [group for group, _ in pairs]
    for number, (group, name) in enumerate(pairs):
        moment(name, p)
        if group not in (*IMAGE_GROUPS, *MAP_GROUPS):
            raise InputError(
                f"pooling.nest: no group {group}; choose from {', '.join((*IMAGE_GROUPS, *MAP_GROUPS))}"
            )
        if group in groups[:number]:
            raise InputError(f"pooling.nest: the group {group} stands there twice; leave one out")
        if group in INSIDE and INSIDE[group] not in groups[:number]:
            raise InputError(
                f"pooling.nest: {group} needs {INSIDE[group]} inside it; put {INSIDE[group]} before it"
            )
    return [(group, name) for group, name in pairs]


def rotate(image: np.ndarray, angle: float) -> np.ndarray:
    """Return uint8 [H, W, 3] turned counter-clockwise about its centre by ``angle`` degrees, same size.

    What comes in from outside is the mean pixel. Quarter turns of a square are exact.
    """
    height, width = image.shape[:2]
    if angle % 90 == 0 and (height == width or angle % 180 == 0):
        return np.rot90(image, int(angle // 90))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=MEAN_PIXEL)


def crop_centre(image: np.ndarray, part: float) -> np.ndarray:
    """Return the centre of [H, W, 3] whose sides are ``part`` of the image's, to the nearest two pixels."""
    height, width = image.shape[:2]
    top, left = crop_offset(height, part), crop_offset(width, part)
    return image[top : height - top, left : width - left]


def crop_offset(side: int, part: float) -> int:
    """Return how many pixels of a side are left out at either end, see :func:`crop_centre`."""
    return round(side * (1 - part) / 2)


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return uint8 [H, W, 3] at ``shape``, bilinear; by area where it shrinks to less than half."""
    if image.shape[:2] == shape:
        return image
    # down to half, bilinear interpolation still sees every pixel, and is several times faster
    by_area = image.shape[0] > 2 * shape[0]
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA if by_area else cv2.INTER_LINEAR)
