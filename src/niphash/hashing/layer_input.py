"""What a layer of a stack learns from: the activations of the frozen layers below it."""

import numpy as np
import torch
from torch import nn

from niphash.hashing.checks import blocks
from niphash.hashing.stack_network import Stack

KEEP_ACTIVATIONS_BYTES = 256 * 2**20  # activations of frozen layers up to this size are kept in memory
LOGGED_ROWS = 256


def layer_input(stack: Stack, depth: int, descriptors: np.ndarray) -> tuple[np.ndarray, nn.Module | None]:
    """Return the rows layer ``depth`` learns from and what is still to be applied to them.

    Small sets go through the frozen layers once and are kept; large ones batch by batch, every epoch.
    """
    below = stack.below(depth)
    if len(descriptors) * stack.sizes[depth] * 4 > KEEP_ACTIVATIONS_BYTES:
        return descriptors, below
    with torch.inference_mode():
        parts = [below(torch.from_numpy(block)).numpy() for block in blocks(descriptors)]
    return np.concatenate(parts), None


def some_rows(descriptors: np.ndarray) -> torch.Tensor:
    """Return some evenly spaced rows as float32 [M, D]."""
    chosen = np.linspace(0, len(descriptors) - 1, min(LOGGED_ROWS, len(descriptors))).astype(np.int64)
    return torch.from_numpy(np.array(descriptors[chosen], np.float32))
