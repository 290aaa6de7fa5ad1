"""Convolutional networks and vision transformers, cut off at a named layer."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niphash.descriptors.network.input import check_mode
from niphash.descriptors.network.map_backbone import (
    MapBackbone,
    check_sides,
    check_token,
    patch_map,
    rgb_tensor,
)
from niphash.descriptors.network.weights import lay_in, read_weights
from niphash.descriptors.network.zoo import SLIM_CLASSES, network_of
from niphash.errors import InputError

#: The papers' names of layers (pool5, and fc6 to fc8 after ReLU), by the start of the network's name.
ALIASES = {
    "alexnet": {"pool5": "features", "fc6": "classifier.2", "fc7": "classifier.5", "fc8": "classifier.6"},
    "vgg": {"pool5": "features", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"},
}
#: Aliases of modules that no ReLU follows.
RECTIFIED = ("fc8",)
#: Modules that hold the end of a network; the default layer comes before them.
HEADS = ("classifier", "head", "heads", "fc")


class Backbone(MapBackbone):
    """A torchvision or timm classification network up to one layer: images to maps [B, C, h, w].

    A fully connected layer, and the class token of a transformer, are maps with h = w = 1; a transformer's
    patch tokens are laid out on their grid.

    Args:
        name: Name of the network in its library, for instance ``"resnet50"``.
        layer: Module whose output is taken (``"layer3"``, ``"features.12"``), or one of the papers' names
            (``pool5``, ``fc6``, ``fc7``, ``fc8``) for AlexNet and VGG; by default the last map.
        weights: ``default`` (the library's pretrained weights, downloaded on first use), ``random`` (seeded),
            ``none`` (the architecture only; :meth:`load_tensors` follows) or the path of a state dict.
        library: ``torchvision`` or ``timm``.
        size: Side of the input, pixels; by default what the network was trained for (225 with 1001 classes:
            TensorFlow's padding wants sides 32k + 1).
        sizes: Several sides, whose descriptors are averaged; takes the place of ``size``.
        input: How a photo is laid on the input: ``crop``, ``squash``, ``pad`` or ``aspect``.
        mean: RGB mean taken off pixels scaled to [0, 1]; by default what the weights were trained with
            (what their file states; 0.5 for a state dict of 1001 classes, as TensorFlow-slim trains them;
            else ImageNet's).
        std: RGB deviation that they are then divided by; default as for ``mean``.
        token: What a transformer gives: its ``patch`` tokens as a map, or its ``class`` token.
        seed: Seed of random weights.
        data_dir: Folder for downloaded weights; the library's own when it is not given.

    Raises:
        InputError: no such network or layer, weights that do not fit or cannot be had.
    """

    def __init__(
        self,
        name: str,
        layer: str | None = None,
        weights: str = "default",
        library: str = "torchvision",
        size: int | None = None,
        sizes: Sequence[int] | None = None,
        input: str = "crop",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        token: Literal["patch", "class"] = "patch",
        seed: int = 0,
        data_dir: Path | str | None = None,
    ) -> None:
        super().__init__()
        check_mode(input)
        check_token(token)
        self.name, self.library, self.input, self.token = name, library, input, token
        self.wanted_layer = layer
        source = network_of(library, name)
        given = None if weights in ("default", "random", "none") else read_weights(weights)
        state = None if given is None else given.state
        classes = source.class_count(state)
        own_mean, own_std = source.normalisation(given)
        slim = classes == SLIM_CLASSES
        native = source.size + 1 if slim and source.size % 32 == 0 else source.size
        self.register_buffer("sizes", torch.tensor(check_sides(sizes or [size or native])))
        self.register_buffer("mean", rgb_tensor("mean", mean, own_mean))
        self.register_buffer("std", rgb_tensor("std", std, own_std))
        self._build(classes, source.size, seed)
        if weights == "default":
            state = dict(source.pretrained(data_dir))
        if state is not None:
            lay_in(self.network, state, self.used, f"backbone.weights={weights}", name)
        self._drop_unused()

    def _build(self, classes: int, size: int, seed: int = 0) -> None:
        """Make the network with random weights and find its layer and the tensors in use up to there."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = network_of(self.library, self.name).build(classes)
        self.classes = classes
        self.network = network.eval().requires_grad_(False)
        calls = _trace(self.network, size)
        self.layer = self._find_layer(calls)
        reached = next(
            i for i, call in enumerate(calls) if call.module == self.layer and call.output is not None
        )
        before = {call.module for call in calls[:reached]}
        after = {call.module for call in calls} - before
        self.used = {k for k in self.network.state_dict() if k.rpartition(".")[0] not in after}
        self.network.get_submodule(self.layer).register_forward_hook(_stop)

    def _find_layer(self, calls: "list[_Call]") -> str:
        outputs = {call.module: call.output for call in calls if call.output is not None}
        if self.wanted_layer is None:
            maps = [module for module, shape in outputs.items() if _is_map(shape) and not _in_head(module)]
            return maps[-1]
        aliases = next((names for start, names in ALIASES.items() if self.name.startswith(start)), {})
        aliases = aliases if self.library == "torchvision" else {}
        layer = aliases.get(self.wanted_layer, self.wanted_layer)
        if layer not in outputs:
            known = ", ".join([*aliases, *(module for module in outputs if module)])
            raise InputError(
                f"backbone.layer={self.wanted_layer}: {self.name} has no such layer; it has {known}"
            )
        return layer

    def _drop_unused(self) -> None:
        """Free what lies behind the layer (most of VGG's memory is)."""
        unused = self.network.state_dict().keys() - self.used
        for name, tensor in (*self.network.named_parameters(), *self.network.named_buffers()):
            if name in unused:
                tensor.data = tensor.new_empty(0)

    def forward(self, images: Tensor) -> Tensor:
        """Return maps [B, C, h, w] of uint8 RGB images [B, 3, H, W]."""
        scale = (1 / (255 * self.std))[:, None, None]
        shift = (-self.mean / self.std)[:, None, None]
        output = self.run(torch.addcmul(shift, images.float(), scale))
        return self._as_map(F.relu(output) if self.wanted_layer in RECTIFIED else output)

    def run(self, x: Tensor) -> Tensor:
        """Return what the layer gives, as it is, for float images [B, 3, H, W] that are scaled already."""
        try:
            self.network(x)
        except _Reached as reached:
            return reached.output
        raise RuntimeError(f"{self.name} ran past its layer {self.layer}")

    def _as_map(self, output: Tensor) -> Tensor:
        if output.ndim == 2:
            return output[:, :, None, None]
        prefix = 0 if output.ndim == 4 else self._prefix_tokens(output.shape[1])
        if self.token == "class":
            if not prefix:
                raise InputError(
                    f"backbone.token=class: {self.name} has no class token at {self.layer}; use patch"
                )
            return output[:, 0, :, None, None]
        if output.ndim == 4:
            return output.permute(0, 3, 1, 2) if self._channels_last() else output
        return patch_map(output, prefix, self.layer)

    def _channels_last(self) -> bool:
        """Whether the library hands on maps as [B, h, w, C], as it does inside Swin transformers."""
        if self.library == "timm":
            return getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        return self.name.startswith("swin") and self.layer.startswith("features")

    def _prefix_tokens(self, tokens: int) -> int:
        prefix = getattr(self.network, "num_prefix_tokens", None)  # timm: class token and registers
        return tokens - math.isqrt(tokens) ** 2 if prefix is None else prefix

    @property
    def title(self) -> str:
        """See :attr:`MapBackbone.title`."""
        return self.name

    def config(self) -> dict[str, Any]:
        """Return the plain values that determine the output, beside :meth:`tensors`."""
        rectified = self.wanted_layer in RECTIFIED
        return {
            **{"network": self.name, "library": self.library, "layer": self.layer, "rectified": rectified},
            **{"input": self.input, "token": self.token},
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors up to the layer, the input's sizes, mean and deviation."""
        network = {f"network.{k}": v for k, v in self.network.state_dict().items() if k in self.used}
        return {**network, "sizes": self.sizes, "mean": self.mean, "std": self.std}

    def load_tensors(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` of a backbone of the same configuration returned.

        Raises:
            InputError: it belongs to another network.
        """
        tensors = {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}
        source = network_of(self.library, self.name)
        classes = source.class_count(tensors)
        if classes != self.classes:
            self._build(classes, source.size)
        lay_in(self.network, tensors, self.used, "the model's backbone", self.name)
        self._drop_unused()
        self.load_scaling(state)


class _Reached(Exception):
    """Carries a layer's output out of a forward pass that need not go on."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


def _stop(module: nn.Module, inputs: Any, output: Tensor) -> None:
    raise _Reached(output)


class _Call(NamedTuple):
    """A module starts (no output) or ends (the shape of its output, when that is one tensor)."""

    module: str
    output: torch.Size | None


def _trace(network: nn.Module, size: int) -> list[_Call]:
    """Return the calls of one forward pass, in order."""
    calls: list[_Call] = []
    hooks = []
    for name, module in network.named_modules():

        def start(module: nn.Module, inputs: Any, name: str = name) -> None:
            calls.append(_Call(name, None))

        def end(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            if isinstance(output, Tensor) and output.ndim in (2, 3, 4):
                calls.append(_Call(name, output.shape))

        hooks += [module.register_forward_pre_hook(start), module.register_forward_hook(end)]
    with torch.inference_mode():
        network(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return calls


def _is_map(shape: torch.Size) -> bool:
    return len(shape) == 3 or (len(shape) == 4 and math.prod(shape[1:]) > max(shape[1:]))


def _in_head(module: str) -> bool:
    return module.split(".")[0] in HEADS or "pool" in module.split(".")[0].lower()
