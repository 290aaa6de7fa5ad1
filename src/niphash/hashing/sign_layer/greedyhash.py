"""GreedyHash in its unsupervised form: signs forwards, straight through backwards."""

import torch

from niphash.hashing.sign_layer.sign_layer import SignNetwork, cosine_loss


class GreedyHash(SignNetwork):
    """Su, Zhang, Han & Tian, *Greedy Hash* (NeurIPS 2018), with the cosine-preserving loss of section 4.2.

    ``weight`` is their alpha.
    """

    method = "greedyhash"

    def __init__(
        self,
        bits: int,
        seed: int = 0,
        weight: float = 0.1,
        max_epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float = 0.001,
    ) -> None:
        super().__init__(bits, seed, weight, max_epochs, batch_size, learning_rate)

    def loss(self, u: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See :meth:`SignNetwork.loss`."""
        return cosine_loss(straight_through_sign(u), x) + self.weight * cubic_gap(u)


def straight_through_sign(u: torch.Tensor) -> torch.Tensor:
    """Return sign(u), [B, bits]; the gradient passes as if it were u (Su et al. 2018, eq. 6-8)."""
    signs = torch.where(u > 0, 1.0, -1.0).to(u.dtype)
    return u + (signs - u).detach()


def cubic_gap(u: torch.Tensor) -> torch.Tensor:
    """Return the mean of |u - sign(u)|^3, the penalty of Su et al. 2018, section 3.3."""
    return (u.abs() - 1).abs().pow(3).mean()
