"""The state of something made of parts: one flat dictionary of tensors."""

from collections.abc import Mapping
from typing import Any

import torch

from niphash.errors import InputError


def prefixed(parts: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors of every part (anything with ``state_dict()``) under ``<part>.<name>``."""
    return {f"{part}.{name}": t for part, owner in parts.items() for name, t in owner.state_dict().items()}


def load_parts(parts: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
    """Give every part the tensors that :func:`prefixed` took from it.

    Raises:
        InputError: a tensor is missing, unknown or of another shape.
    """
    if foreign := sorted({name.split(".")[0] for name in state} - parts.keys()):
        raise InputError(f"unknown tensors {', '.join(foreign)}.* in a model of {', '.join(parts)}")
    for part, owner in parts.items():
        own = {name.removeprefix(f"{part}."): t for name, t in state.items() if name.startswith(f"{part}.")}
        try:
            owner.load_state_dict(own)
        except (RuntimeError, KeyError) as error:
            raise InputError(
                f"the stored tensors of {part!r} do not fit its configuration; load the model with the "
                "config.yaml that it was saved with"
            ) from error
