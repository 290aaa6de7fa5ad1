"""Chains of moments as the papers write them (A_S-S_T-M_R), and many of them from one orbit of views."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from niphash.config import build
from niphash.data.images import ImageSet
from niphash.descriptors.network.cnn_describer import CNNDescriber
from niphash.descriptors.network.nip import IMAGE_GROUPS, NIP
from niphash.descriptors.network.pooling import Pooling
from niphash.errors import InputError
from niphash.studies.measured import Bench
from niphash.studies.published_values import find_published

Nest = Sequence[Sequence[str]]

#: The papers' letters; D is the standard deviation, which one of them calls S.
MOMENT_LETTERS = {"mean": "A", "rms": "S", "max": "M", "std": "D", "gem": "G"}
GROUP_LETTERS = {"scale": "S", "translation": "T", "rotation": "R", "flip": "F"}


def chain_name(nest: Nest) -> str:
    """Return the papers' name of a nest, innermost first: ``A_S-S_T-M_R``; ``pool5`` for the bare map."""
    return "-".join(f"{MOMENT_LETTERS[m]}_{GROUP_LETTERS[g]}" for g, m in nest) or "pool5"


def published_chain(name: str, dataset: str, metric: str) -> float | None:
    """Return the published value of a chain on VGG-16, or ``None``.

    Averages over several groups may be taken in any order, so ``A_S-A_T`` is the published ``A_T-A_S``.
    """
    found = find_published(dataset=dataset, metric=metric, method="uncompressed", bits=None, paper="nip")
    values = {_levels(number.descriptor.removeprefix("vgg16_")): number.value for number in found}
    return values.get(_levels(name))


def _levels(name: str) -> tuple[str, ...]:
    """Return the levels of a chain, in an order that says what is computed."""
    levels = name.split("-")
    return tuple(sorted(levels) if all(level.startswith("A_") for level in levels) else levels)


class Nests(Pooling):
    """Several nests over one orbit of views: their descriptors, each of length one, side by side.

    Args:
        nests: Poolings whose groups of the image are the same, in the same order.
    """

    def __init__(self, nests: Sequence[NIP]) -> None:
        super().__init__()
        if any(list(nest.orbit.items()) != list(nests[0].orbit.items()) for nest in nests):
            raise InputError("the nests look at different orbits; describe them one by one")
        self.nests = list(nests)
        self.orbit_size, self.zoom = nests[0].orbit_size, nests[0].zoom

    def dim(self, channels: int, height: int, width: int) -> int:
        """Return the components of all nests together."""
        return sum(nest.dim(channels, height, width) for nest in self.nests)

    def config(self) -> dict[str, object]:
        """Return the plain values that determine the output."""
        return {"pooling": "Nests", "nests": [nest.config() for nest in self.nests]}

    def span(self, view_bytes: int) -> int:
        """Return how many views to make at once."""
        return self.nests[0].span(view_bytes)

    def views(self, canvas: np.ndarray, shape: tuple[int, int], start: int, stop: int) -> np.ndarray:
        """Return views ``start`` to ``stop`` of the orbit, uint8 [stop - start, H, W, 3]."""
        return self.nests[0].views(canvas, shape, start, stop)

    def stream(self) -> Callable[[Tensor], Tensor]:
        """Return the nests as one stream: maps [n, C, H, W] of consecutive views -> descriptors [k, D]."""
        streams = [nest.stream() for nest in self.nests]
        return lambda maps: torch.cat([F.normalize(push(maps)) for push in streams], 1)


def describe_chains(
    bench: Bench, nests: Sequence[Nest], *image_sets: ImageSet
) -> dict[str, list[np.ndarray]]:
    """Describe image sets by each nest; nests over one orbit share their way through the network.

    Args:
        bench: ``conf/pooling`` gives rotations, scales and the rest.
        nests: What is described.
        image_sets: Whose photos are described.

    Returns:
        By the name of the chain, one float32 [N, D] for each image set, L2-normalised.

    Raises:
        InputError: ``conf/pooling`` is no NIP, or something follows it.
    """
    pooling = _nip_values(bench)
    by_orbit: dict[tuple[str, ...], list[Nest]] = {}
    for nest in nests:
        by_orbit.setdefault(tuple(group for group, _ in nest if group in IMAGE_GROUPS), []).append(nest)
    found: dict[str, list[np.ndarray]] = {}
    for together in by_orbit.values():
        poolings = [{**pooling, "nest": [list(pair) for pair in nest]} for nest in together]
        node = {"_target_": f"{Nests.__module__}.{Nests.__name__}", "nests": poolings}
        describer = bench.run.new_describer(pooling=node)
        if not isinstance(describer, CNNDescriber):
            raise InputError("this study needs descriptor=single and whitening=none")
        describe = bench.fitted(describer)
        descriptors = [describe(images) for images in image_sets]
        ends = np.cumsum([_dim(describer, nest) for nest in build(node).nests])
        for nest, *parts in zip(
            together, *(np.split(rows, ends[:-1], axis=1) for rows in descriptors), strict=True
        ):
            found[chain_name(nest)] = [
                part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in parts
            ]
    return {chain_name(nest): found[chain_name(nest)] for nest in nests}


def _nip_values(bench: Bench) -> dict[str, Any]:
    values: dict[str, Any] = bench.run.option("pooling")
    if not str(values.get("_target_", "")).endswith(".NIP"):
        raise InputError("this study is about nested invariance pooling; leave pooling=nip as it is")
    return values


def _dim(describer: CNNDescriber, nest: NIP) -> int:
    side = int(describer.backbone.sizes[0])
    return nest.dim(*describer.backbone.map_shape(side, side))
