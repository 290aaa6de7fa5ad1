"""What every network backbone offers: photos on an input to feature maps."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from niphash.errors import InputError

SMALLEST_INPUT = 16


class MapBackbone(nn.Module, ABC):
    """uint8 RGB images to maps [B, C, h, w]; one vector an image is a map with h = w = 1.

    Attributes:
        input: How a photo is laid on the input, see :mod:`niphash.descriptors.network.input`.
        sizes: int64 [S], sides of the input in pixels; the descriptors of several are averaged.
        mean: float32 [3], RGB mean taken off pixels in [0, 1].
        std: float32 [3], RGB deviation that they are then divided by.
    """

    #: Whether it is a finished program: its arithmetic cannot be chosen, nor can torch compile it.
    finished: bool = False
    input: str
    sizes: Tensor
    mean: Tensor
    std: Tensor

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Return maps [B, C, h, w] of uint8 RGB images [B, 3, H, W]."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What the network is called in messages."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the plain values that determine the output, beside :meth:`tensors`."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return all that a saved model keeps of it."""

    @abstractmethod
    def load_tensors(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` of a backbone of the same configuration returned.

        Raises:
            InputError: it belongs to another network.
        """

    def map_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return (C, h, w) of the map of a height x width input.

        Raises:
            InputError: the network does not take inputs of that size.
        """
        image = torch.zeros(1, 3, height, width, dtype=torch.uint8, device=self.mean.device)
        try:
            with torch.inference_mode():
                channels, rows, columns = self(image).shape[1:]
        except InputError:
            raise
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"backbone.size={height}: {self.title} cannot take an input of {height} x {width} "
                f"({reason}); choose another size, or backbone.input=crop"
            ) from error
        return channels, rows, columns

    def load_scaling(self, state: Mapping[str, Tensor]) -> None:
        """Take over ``sizes``, ``mean`` and ``std`` of a saved model.

        Raises:
            InputError: one is missing or not of its shape.
        """
        scaling = {name: state.get(name, torch.empty(0)) for name in ("sizes", "mean", "std")}
        if not len(scaling["sizes"]) or not scaling["mean"].shape == scaling["std"].shape == (3,):
            raise InputError(
                "the model's backbone: its input's sizes, mean or std are missing; train it again"
            )
        check_sides(scaling["sizes"].tolist())
        for name, tensor in scaling.items():
            setattr(self, name, tensor.to(self.mean.device))


def patch_map(tokens: Tensor, prefix: int, layer: str) -> Tensor:
    """Return the patch tokens of a transformer on their square grid, [B, C, h, h], of [B, prefix + h h, C].

    Raises:
        InputError: they fill no square; names ``layer``.
    """
    patches = tokens[:, prefix:]  # [B, h * h, C]
    side = math.isqrt(patches.shape[1])
    if side**2 != patches.shape[1]:
        raise InputError(
            f"backbone.layer={layer}: its {patches.shape[1]} tokens are no square grid of patches"
        )
    return patches.transpose(1, 2).unflatten(2, (side, side))


def check_token(token: str) -> None:
    """Raise an InputError unless ``token`` is something that a transformer gives."""
    if token not in ("patch", "class"):
        raise InputError(f"backbone.token={token}: choose one of patch, class")


def check_sides(sides: Sequence[int]) -> list[int]:
    """Return input sides in pixels as a list; raise an InputError where one is too small."""
    if any(side < SMALLEST_INPUT for side in sides):
        raise InputError(
            f"backbone.size={list(sides)}: an input needs at least {SMALLEST_INPUT} pixels a side"
        )
    return list(sides)


def rgb_tensor(option: str, given: float | Sequence[float] | None, default: Sequence[float]) -> Tensor:
    """Return float32 [3] of one number or three, ``default`` where none is given.

    Raises:
        InputError: another count of numbers; names ``backbone.<option>``.
    """
    values = default if given is None else [given] if isinstance(given, int | float) else list(given)
    if len(values) not in (1, 3):
        raise InputError(
            f"backbone.{option}={list(values)}: give one number, or three for red, green and blue"
        )
    return torch.tensor(values, dtype=torch.float32).expand(3).clone()
