"""How a sign layer is trained: a thin LightningModule."""

from collections.abc import Callable

import torch

from niphash.training.stage import Stage


class SignStage(Stage):
    """Learn a projection [D, bits] by Adam; logs ``loss``, and ``val_loss`` of held-out rows, of every epoch.

    Args:
        name: See :class:`Stage`.
        loss: What is made small.
        bits: Length of a code.
        mean: Mean of the fit set, float32 [D].
        scale: Overall standard deviation of the fit set.
        learning_rate: Learning rate of Adam.
        weight: How hard the loss draws the layer to its signs; a hyperparameter to be saved.
        seed: Seed of the initial weights.
    """

    mean: torch.Tensor

    def __init__(
        self,
        name: str,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        *,
        bits: int,
        mean: torch.Tensor,
        scale: float,
        learning_rate: float,
        weight: float,
        seed: int,
    ) -> None:
        options = {"bits": bits, "learning_rate": learning_rate, "weight": weight, "seed": seed}
        super().__init__(name, options)
        self.loss = loss
        self.learning_rate = learning_rate
        self.scale = scale
        self.register_buffer("mean", mean)
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(len(mean), bits, generator=generator) / len(mean) ** 0.5
        self.projection = torch.nn.Parameter(start)

    def _loss(self, batch: torch.Tensor) -> torch.Tensor:
        x = (batch - self.mean) / self.scale
        return self.loss(x @ self.projection, x)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the loss on descriptors [B, D], B >= 2."""
        loss = self._loss(batch)
        self.log_values({"loss": loss.detach()}, {"loss": loss.detach()}, len(batch))
        return loss

    def validation_step(self, batch: torch.Tensor) -> None:
        """Log the loss on held-out descriptors [B, D], B >= 2."""
        loss = self._loss(batch)
        self.log_values({"val_loss": loss}, {"val_loss": loss}, len(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), self.learning_rate)
