"""State dicts of networks: read from files without trust, and laid into a network with a check."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from niphash.errors import InputError

#: Keys under which training programs wrap the state dict, and names they put before every tensor.
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "model.", "network.", "backbone.")


class Weights(NamedTuple):
    """What a file of weights holds.

    Attributes:
        state: The state dict.
        mean: float [3], the RGB mean taken off the pixels in [0, 1] that the weights were trained on, where
            the file says (those of ``stage=classifier`` do).
        std: float [3], the RGB deviation that those were divided by; given when ``mean`` is.
    """

    state: dict[str, Tensor]
    mean: Tensor | None = None
    std: Tensor | None = None


def read_weights(path: Path | str, option: str = "backbone.weights") -> Weights:
    """Return the tensors of a ``.safetensors`` file or of a file written by ``torch.save``, on the CPU.

    Nothing but tensors and plain containers is unpickled. Wrappers (``{"state_dict": ...}``) and prefixes
    that every name shares (``module.``) are taken off.

    Args:
        path: The file.
        option: What named it, for messages.

    Raises:
        InputError: the file is missing, unreadable, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{option}={path}: no such file; name a state dict (.pt, .pth or .safetensors)")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file provokes
        raise InputError(
            f"{option}={path}: cannot be read as a state dict ({type(error).__name__}); "
            "save one with torch.save(network.state_dict(), ...) or as safetensors"
        ) from error
    state = _unwrap(content)
    if state is None:
        raise InputError(f"{option}={path}: holds no state dict (a mapping of names to tensors)")
    return Weights(_without_prefix(state), *_normalisation(content))


def _normalisation(content: object) -> tuple[Tensor, Tensor] | tuple[()]:
    """Return the mean and the deviation that stand beside the state dict; nothing where they do not."""
    if not isinstance(content, Mapping):
        return ()
    stated = [content.get(name) for name in ("mean", "std")]
    mean, std = (values if isinstance(values, Tensor) and values.shape == (3,) else None for values in stated)
    return () if mean is None or std is None else (mean, std)


def _unwrap(content: object) -> dict[str, Tensor] | None:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        return None
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        return None
    return dict(content)


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            return _without_prefix({name.removeprefix(prefix): value for name, value in state.items()})
    return state


def class_count(state: Mapping[str, Tensor], default_shapes: Mapping[str, torch.Size], default: int) -> int:
    """Return the number of classes a state dict was trained for.

    Args:
        state: The tensors.
        default_shapes: Shapes of the same network built for ``default`` classes.
        default: Number of classes when the state does not say (its head is missing, say).
    """
    counts = {
        state[name].shape[0]
        for name, shape in default_shapes.items()
        if shape[:1] == (default,)
        and name in state
        and state[name].shape[1:] == shape[1:]
        and state[name].ndim
    }
    return counts.pop() if len(counts) == 1 else default


def lay_in(
    network: nn.Module,
    state: Mapping[str, Tensor],
    needed: set[str],
    source: str,
    name: str,
    choice: str = "backbone",
) -> None:
    """Copy ``state`` into ``network``.

    Args:
        network: The network.
        state: Names to tensors; entries that are not ``needed`` may be missing (a head that was cut off).
        needed: Names without which the network cannot run as far as its layer.
        source: Where the state comes from, for the message.
        name: The architecture, for the message.
        choice: The option that names the architecture, for the message.

    Raises:
        InputError: the state belongs to another architecture.
    """
    own = network.state_dict()
    wrong = [f"{k} is not in it" for k in state if k not in own]
    wrong += [
        f"{k} is missing" for k in own if k in needed and k not in state and "num_batches_tracked" not in k
    ]
    wrong += [
        f"{k} has shape {tuple(state[k].shape)} in place of {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    if wrong:
        raise InputError(
            f"{source}: not the weights of {name} ({wrong[0]}, {len(wrong)} such differences); "
            f"give the state dict of this architecture or change {choice}"
        )
    network.load_state_dict(dict(state), strict=False)
