"""Bi-half hashing: every bit is half on and half off in every training batch."""

from typing import Any

import torch

from niphash.hashing.sign_layer.sign_layer import SignNetwork, cosine_loss


class BiHalf(SignNetwork):
    """Li & van Gemert, *Deep Unsupervised Image Hashing by Maximizing Bit Entropy* (AAAI 2021).

    ``weight`` is their gamma.
    """

    method = "bihalf"

    def __init__(
        self,
        bits: int,
        seed: int = 0,
        weight: float = 6.0,
        max_epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float = 0.001,
    ) -> None:
        super().__init__(bits, seed, weight, max_epochs, batch_size, learning_rate)

    def loss(self, u: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See :meth:`SignNetwork.loss`."""
        return cosine_loss(bi_half(u, self.weight), x)


def bi_half(u: torch.Tensor, gamma: float) -> torch.Tensor:
    """Round u [B, bits] so that each bit is +1 on the larger half of the batch and -1 on the rest.

    Backwards, dL/du = dL/db + gamma (u - b) / (B bits), which draws u to its codes (Li & van Gemert 2021,
    eq. 6-9: the rounding is the optimal transport to the half-half distribution).
    """
    return _BiHalf.apply(u, gamma)


class _BiHalf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: torch.Tensor, gamma: float) -> torch.Tensor:
        rank = u.argsort(dim=0).argsort(dim=0)
        codes = torch.where(rank >= len(u) // 2, 1.0, -1.0).to(u.dtype)
        ctx.save_for_backward(u, codes)
        ctx.gamma = gamma
        return codes

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        u, codes = ctx.saved_tensors
        return gradients[0] + ctx.gamma * (u - codes) / u.numel(), None
