"""A name for everything that determines a descriptor."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch


def fingerprint(
    config: Mapping[str, Any], state: Mapping[str, torch.Tensor], libraries: tuple[str, ...]
) -> str:
    """Return 32 hexadecimal digits (blake2b-16) over a configuration, tensors and library versions.

    Args:
        config: Plain values (what JSON can hold) that change the output.
        state: Fitted or learned tensors, as of ``state_dict()``.
        libraries: Names of the distributions whose version may change the output.
    """
    head = {"config": config, "versions": {name: version(name) for name in ("niphash", *libraries)}}
    digest = hashlib.blake2b(json.dumps(head, sort_keys=True).encode(), digest_size=16)
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"|{name}{tuple(tensor.shape)}{tensor.dtype}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
