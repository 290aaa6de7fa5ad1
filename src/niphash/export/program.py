"""From a photo's pixels to its code as one torch module, which can be written as one graph."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niphash.descriptors.describer import Describer
from niphash.descriptors.early_fusion import Fusion
from niphash.descriptors.network.cnn_describer import CNNDescriber
from niphash.descriptors.stages import Stage, StagedDescriber
from niphash.errors import InputError
from niphash.export.photo import Layout, Views
from niphash.hashing.hasher import NoHashing
from niphash.hashing.signs import SignHasher
from niphash.model import Model

REMEDY = "export a model of a network, pooled, and hashed by signs"


class Program(nn.Module):
    """Photo uint8 [H, W, 3] (RGB, upright) to its outputs, in the order of :attr:`outputs`, in float32.

    ``code`` uint8 [bits // 8], ``projections`` float32 [bits], whose signs are the bits, and ``descriptor``
    float32 [D], L2-normalised; the last alone for ``hashing=none``.

    Args:
        model: A network up to its layer, pooled (NIP over its orbit), centred or whitened, fused or not; and
            any hashing whose bits are signs of projections.

    Raises:
        InputError: the model is made of something else; names it.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.descriptor = descriptor_of(model.describer)
        if not isinstance(model.hasher, SignHasher | NoHashing):
            raise InputError(f"codes of {type(model.hasher).__name__} are no signs of projections; {REMEDY}")
        self.hasher = model.hasher if isinstance(model.hasher, SignHasher) else None
        self.outputs = ["descriptor"] if self.hasher is None else ["code", "projections", "descriptor"]
        self.register_buffer("powers", 2 ** torch.arange(8, dtype=torch.int32), persistent=False)

    powers: Tensor

    def forward(self, photo: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of one photo."""
        descriptor = self.descriptor(photo)  # [1, D]
        if self.hasher is None:
            return (descriptor[0],)
        projections = self.hasher.project_block(descriptor)[0]
        bits = (projections > 0).to(torch.int32).reshape(-1, 8)
        return (bits * self.powers).sum(1).to(torch.uint8), projections, descriptor[0]


def descriptor_of(describer: Describer) -> nn.Module:
    """Return the module photo [H, W, 3] -> descriptor [1, D] of a describer.

    Raises:
        InputError: it is not made of networks; names what it is made of.
    """
    if isinstance(describer, StagedDescriber):
        return StagedDescriptor(descriptor_of(describer.describer), describer.stages)
    if isinstance(describer, Fusion):
        parts = descriptor_of(describer.first), descriptor_of(describer.second)
        return FusedDescriptor(*parts, describer.alpha)
    if not isinstance(describer, CNNDescriber):
        raise InputError(f"{type(describer).__name__} describes without a network; {REMEDY}")
    if describer.backbone.finished:
        raise InputError(f"{describer.backbone.title} is a graph already; {REMEDY} of torchvision or timm")
    if describer.backbone.input == "aspect":
        raise InputError("backbone.input=aspect makes inputs of any shape; train the model with crop or pad")
    return NetworkDescriptor(describer)


class NetworkDescriptor(nn.Module):
    """What :class:`CNNDescriber` does: views through the network, pooled, averaged over input sizes."""

    def __init__(self, describer: CNNDescriber) -> None:
        super().__init__()
        # hidden from the exporter, which follows modules in and out: a backbone jumps out of its network
        self.network = (describer.backbone, describer.pooling)
        self.inputs: list[tuple[Layout, Views]] = []
        for size in describer.backbone.sizes.tolist():
            layout = Layout(size, describer.backbone.input, describer.pooling.zoom)
            self.inputs.append((layout, Views(describer.pooling, size, layout.largest)))

    def forward(self, photo: Tensor) -> Tensor:
        """Return [1, D] of a photo uint8 [H, W, 3]."""
        sizes = [F.normalize(self._at_size(photo, layout, views)) for layout, views in self.inputs]
        return F.normalize(torch.stack(sizes).mean(0))

    def _at_size(self, photo: Tensor, layout: Layout, views: Views) -> Tensor:
        backbone, pooling = self.network
        canvas, push = layout(photo), pooling.stream()
        for chunk in views.chunks():
            pooled = push(backbone(views(canvas, chunk)))
        return pooled


class StagedDescriptor(nn.Module):
    """A descriptor and the stages after it."""

    def __init__(self, descriptor: nn.Module, stages: list[Stage]) -> None:
        super().__init__()
        self.descriptor, self.stages = descriptor, stages

    def forward(self, photo: Tensor) -> Tensor:
        """Return [1, D] of a photo uint8 [H, W, 3]."""
        descriptor = self.descriptor(photo)
        for stage in self.stages:
            descriptor = stage.transform(descriptor)
        return descriptor


class FusedDescriptor(nn.Module):
    """Two descriptors, weighted and joined."""

    def __init__(self, first: nn.Module, second: nn.Module, alpha: float) -> None:
        super().__init__()
        self.first, self.second, self.alpha = first, second, alpha

    def forward(self, photo: Tensor) -> Tensor:
        """Return [1, D] of a photo uint8 [H, W, 3]."""
        parts = [self.alpha * self.first(photo), (1 - self.alpha) * self.second(photo)]
        return F.normalize(torch.cat(parts, 1))
