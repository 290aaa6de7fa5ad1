"""The restricted Boltzmann machine as plain torch: energies, conditionals, Gibbs sampling, CD and PCD.

Notation: visible units v [B, V], hidden units h [B, H], weights W [H, V], hidden biases b, visible biases c.
Sources: Hinton, *A practical guide to training restricted Boltzmann machines* (2010); Lin, Morere et al.,
*DeepHash* (2017), section 3; Tieleman, *Training RBMs using approximations to the likelihood gradient*
(2008).
"""

from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

VisibleUnits = Literal["binary", "gaussian"]


class RBM(nn.Module):
    """A restricted Boltzmann machine with binary hidden units.

    The energy of a joint state is, for binary visible units,
    E(v, h) = - h^T W v - b^T h - c^T v, and for Gaussian ones of unit variance,
    E(v, h) = - h^T W v - b^T h + |v - c|^2 / 2.

    Args:
        visible: Number of visible units V.
        hidden: Number of hidden units H.
        visible_units: ``"binary"`` or ``"gaussian"``.
    """

    def __init__(self, visible: int, hidden: int, visible_units: VisibleUnits = "binary") -> None:
        super().__init__()
        self.visible_units = visible_units
        self.weight = nn.Parameter(torch.zeros(hidden, visible))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.visible_bias = nn.Parameter(torch.zeros(visible))

    @torch.no_grad()
    def initialise(self, std: float, generator: torch.Generator) -> None:
        """Draw the weights from N(0, std^2) and set the biases to zero."""
        self.weight.normal_(0.0, std, generator=generator)
        self.hidden_bias.zero_()
        self.visible_bias.zero_()

    def energy(self, v: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """Return E(v, h) [B] of v [B, V] and h [B, H]."""
        return self._visible_energy(v) - (h * self.hidden_logits(v)).sum(1)

    def free_energy(self, v: torch.Tensor, hidden_logits: torch.Tensor | None = None) -> torch.Tensor:
        """Return F(v) = - log sum_h exp(-E(v, h)) [B], from the ``hidden_logits`` of v where known."""
        logits = self.hidden_logits(v) if hidden_logits is None else hidden_logits
        return self._visible_energy(v) - F.softplus(logits).sum(1)

    def _visible_energy(self, v: torch.Tensor) -> torch.Tensor:
        if self.visible_units == "gaussian":
            return 0.5 * (v - self.visible_bias).square().sum(1)
        return -(v @ self.visible_bias)

    def hidden_logits(self, v: torch.Tensor) -> torch.Tensor:
        """Return W v + b [B, H], whose sigmoid is P(h = 1 | v)."""
        return F.linear(v, self.weight, self.hidden_bias)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        """Return P(h = 1 | v) [B, H]."""
        return torch.sigmoid(self.hidden_logits(v))

    def visible_mean(self, h: torch.Tensor) -> torch.Tensor:
        """Return the expectation of v given h [B, H]: P(v = 1 | h) or the Gaussian mean, [B, V]."""
        field = torch.addmm(self.visible_bias, h, self.weight)
        return field if self.visible_units == "gaussian" else torch.sigmoid(field)

    def sample_visible(self, h: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw v [B, V] given h [B, H]."""
        mean = self.visible_mean(h)
        if self.visible_units == "gaussian":
            return mean + torch.empty_like(mean).normal_(generator=generator)
        return sample_bernoulli(mean, generator)

    @torch.no_grad()
    def gibbs(
        self,
        hidden_probability: torch.Tensor,
        steps: int,
        generator: torch.Generator,
        mean_field: bool = True,
    ) -> torch.Tensor:
        """Run a Gibbs chain from P(h | v_0) [B, H] and return v_k [B, V].

        Hidden units are always sampled. With ``mean_field`` the visible units take their expectation
        (Hinton 2010, section 3.2: less noise); without, they are sampled and the chain is exact.
        """
        for step in range(steps):
            h = sample_bernoulli(hidden_probability, generator)
            v = self.visible_mean(h) if mean_field else self.sample_visible(h, generator)
            if step + 1 < steps:
                hidden_probability = self(v)
        return v


def sample_bernoulli(probability: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw zeros and ones of the shape and dtype of ``probability``."""
    drawn = torch.rand(probability.shape, generator=generator, device=probability.device)
    return (drawn < probability).to(probability.dtype)  # several times faster than torch.bernoulli on a CPU


def contrastive_divergence(
    rbm: RBM, v_data: torch.Tensor, v_model: torch.Tensor, data_logits: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean F(v_data) - mean F(v_model), a scalar whose gradient is that of contrastive divergence.

    Since dF/dW = - E[h | v] v^T, the gradient is - (<h v>_data - <h v>_model); ``v_model`` is held constant.

    Args:
        rbm: The machine.
        v_data: [B, V], the data.
        v_model: [B', V], states of the Gibbs chain that started at the data (CD-k), or of persistent
            chains (PCD).
        data_logits: [B, H], ``rbm.hidden_logits(v_data)`` where it is known.

    Returns:
        The scalar, and the hidden logits of the data [B, H], for a penalty on them.
    """
    with torch.no_grad():
        known = rbm.hidden_logits(v_data) if data_logits is None else data_logits
        logits = torch.cat([known, rbm.hidden_logits(v_model)])  # [B + B', H]
        v = torch.cat([v_data.to(logits.dtype), v_model.to(logits.dtype)])  # [B + B', V]
    logits = _KnownLogits.apply(rbm.weight, rbm.hidden_bias, v, logits)
    of_data, of_model = logits.split([len(v_data), len(v_model)])
    difference = rbm.free_energy(v_data, of_data).mean() - rbm.free_energy(v_model, of_model).mean()
    return difference, of_data


class _KnownLogits(torch.autograd.Function):
    """W v + b whose value is known: data and model share the one product of their gradient."""

    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, bias: torch.Tensor, v: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(v)
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (v,) = ctx.saved_tensors
        return gradient.T @ v, gradient.sum(0), None, None


@torch.no_grad()
def reconstruction_error(rbm: RBM, v: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of v [B, V] and its mean-field reconstruction, a scalar."""
    return F.mse_loss(rbm.visible_mean(rbm(v)), v)
