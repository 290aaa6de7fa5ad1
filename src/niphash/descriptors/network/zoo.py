"""Where networks come from: torchvision, and timm where it is installed."""

import difflib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from niphash.descriptors.network.weights import Weights, class_count
from niphash.errors import InputError

#: Classes of an ImageNet head; TensorFlow-slim's heads have one more, the background.
IMAGENET_CLASSES = 1000
SLIM_CLASSES = 1001


class UnavailableWeights(InputError):
    """Pretrained weights that cannot be downloaded.

    Attributes:
        network: Whose weights.
        reason: What the download said.
    """

    def __init__(self, part: str, network: str, reason: str) -> None:
        super().__init__(
            f"{part}.weights=default: the pretrained weights of {network} cannot be downloaded "
            f"({reason}); connect to the network once, or give {part}.weights=<path to a state dict> "
            f"or {part}.weights=random"
        )
        self.network, self.reason = network, reason


class Zoo(ABC):
    """One network of a library: its architecture, and how its pretrained weights were trained.

    Attributes:
        name: The network's name in the library.
        size: Side of the input its pretrained weights were trained for, pixels.
        mean: RGB mean that its pretrained weights expect to be taken off, of pixels in [0, 1].
        std: RGB deviation that they expect to be divided by.
        part: The part of the configuration that names the network (``backbone``), for messages.
    """

    library: str

    def __init__(self, name: str, part: str = "backbone") -> None:
        self.part = part
        if name not in self.names():
            near = difflib.get_close_matches(name, self.names(), 5) or self.names()
            raise InputError(
                f"{part}.name={name}: {self.library} has no such network; it has {', '.join(near)}"
            )
        self.name = name
        self.size: int = 224
        self.mean: Sequence[float]
        self.std: Sequence[float]

    @abstractmethod
    def names(self) -> list[str]:
        """Return the networks of the library."""

    @abstractmethod
    def build(self, classes: int = IMAGENET_CLASSES) -> nn.Module:
        """Return the network with random weights."""

    @abstractmethod
    def pretrained(self, data_dir: Path | str | None) -> Mapping[str, Tensor]:
        """Return the library's pretrained weights, downloaded on first use.

        Raises:
            InputError: there are none, or they cannot be had.
        """

    def shapes(self) -> dict[str, torch.Size]:
        """Return the shape of every tensor of the network built for the default number of classes."""
        return {name: tensor.shape for name, tensor in self.build().state_dict().items()}

    def class_count(self, state: Mapping[str, Tensor] | None) -> int:
        """Return the number of classes that ``state`` was trained for."""
        return IMAGENET_CLASSES if state is None else class_count(state, self.shapes(), IMAGENET_CLASSES)

    def normalisation(self, weights: Weights | None) -> tuple[Sequence[float], Sequence[float]]:
        """Return the RGB mean and deviation that weights were trained with.

        Args:
            weights: The content of a file, which may state them; without them, TensorFlow-slim's 0.5 for 1001
                classes, else the library's. ``None``: pretrained or random weights.
        """
        if weights is not None and weights.mean is not None and weights.std is not None:
            return weights.mean.tolist(), weights.std.tolist()
        if weights is not None and self.class_count(weights.state) == SLIM_CLASSES:
            return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
        return self.mean, self.std

    def _unavailable(self, error: Exception) -> UnavailableWeights:
        return UnavailableWeights(self.part, self.name, " ".join(str(error).split())[:200])


class Torchvision(Zoo):
    """A classification network of torchvision."""

    library = "torchvision"

    def __init__(self, name: str, part: str = "backbone") -> None:
        super().__init__(name, part)
        from torchvision.models import get_model_weights

        self._weights = get_model_weights(name).DEFAULT
        expected = self._weights.transforms()
        self.size, self.mean, self.std = expected.crop_size[0], expected.mean, expected.std

    def names(self) -> list[str]:
        """Return the classification networks (quantised ones excepted)."""
        from torchvision import models

        return models.list_models(module=models)

    def build(self, classes: int = IMAGENET_CLASSES) -> nn.Module:
        """Return the network with random weights."""
        from torchvision.models import get_model

        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # of GoogLeNet and Inception, about their random weights
            return get_model(self.name, weights=None, num_classes=classes)

    def shapes(self) -> dict[str, torch.Size]:
        """Return the shape of every tensor of the network built for the default number of classes."""
        with torch.device("meta"):
            return super().shapes()

    def pretrained(self, data_dir: Path | str | None) -> Mapping[str, Tensor]:
        """Return the library's pretrained weights, downloaded on first use."""
        folder = None if data_dir is None else str(Path(data_dir) / "weights")
        try:
            return self._weights.get_state_dict(model_dir=folder, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise self._unavailable(error) from error


class Timm(Zoo):
    """A network of timm (the extra ``niphash[timm]``)."""

    library = "timm"

    def __init__(self, name: str, part: str = "backbone") -> None:
        try:
            import timm
        except ImportError as error:
            raise InputError("backbone=timm: timm is not installed; pip install 'niphash[timm]'") from error
        self._timm = timm
        super().__init__(name, part)
        config = timm.get_pretrained_cfg(name)
        self.size = config.input_size[-1] if config is not None else 224
        self.mean = config.mean if config is not None else (0.485, 0.456, 0.406)
        self.std = config.std if config is not None else (0.229, 0.224, 0.225)

    def names(self) -> list[str]:
        """Return all networks, pretrained tags included."""
        return self._timm.list_models() + self._timm.list_pretrained()

    def build(self, classes: int = IMAGENET_CLASSES) -> nn.Module:
        """Return the network with random weights."""
        return self._timm.create_model(self.name, pretrained=False, num_classes=classes)

    def pretrained(self, data_dir: Path | str | None) -> Mapping[str, Tensor]:
        """Return the library's pretrained weights, downloaded on first use."""
        folder = None if data_dir is None else Path(data_dir) / "weights"
        try:
            network = self._timm.create_model(
                self.name, pretrained=True, num_classes=IMAGENET_CLASSES, cache_dir=folder
            )
        except Exception as error:  # the hub's clients have errors of their own
            raise self._unavailable(error) from error
        return network.state_dict()


LIBRARIES: dict[str, type[Zoo]] = {"torchvision": Torchvision, "timm": Timm}


def network_of(library: str, name: str, part: str = "backbone") -> Zoo:
    """Return the network ``name`` of ``library``, asked for by a part of the configuration.

    Raises:
        InputError: there is no such library or network.
    """
    if library not in LIBRARIES:
        raise InputError(f"{part}.library={library}: choose one of {', '.join(LIBRARIES)}")
    return LIBRARIES[library](name, part)
