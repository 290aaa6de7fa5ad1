"""A linear layer to signs, learned so that the cosines of the descriptors survive in the codes."""

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from niphash.hashing.checks import check_number
from niphash.hashing.signs import ProjectionHasher
from niphash.training.fit_data import FitData
from niphash.training.fitting import fit_module
from niphash.training.rows import fit_moments
from niphash.training.stage import Stage
from niphash.training.streams import DescriptorBatches
from niphash.training.trainer import TrainerFactory

#: Turns projections [B, bits] and centred descriptors [B, D] into a scalar.
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class SignNetwork(ProjectionHasher):
    """What :mod:`niphash.hashing.sign_layer.bihalf` and :mod:`niphash.hashing.sign_layer.greedyhash` share.

    The layer sees centred descriptors over their overall standard deviation; no labels are used. The papers
    train it under a backbone, here the descriptors are given.

    Args:
        bits: Length of a code.
        seed: Seed of the weights and of the order of the batches.
        weight: gamma (bihalf) or alpha (greedyhash): how hard the layer is drawn to its signs.
        max_epochs: Passes over the fit set.
        batch_size: Descriptors a step, at least two to compare.
        learning_rate: Learning rate of Adam.
    """

    #: Names the stage, its checkpoint and its log.
    method: str

    def __init__(
        self, bits: int, seed: int, weight: float, max_epochs: int, batch_size: int, learning_rate: float
    ) -> None:
        super().__init__(bits, seed)
        self.weight = check_number("weight", weight, least=0)
        self.max_epochs = check_number("max_epochs", max_epochs, least=1, whole=True)
        self.batch_size = check_number("batch_size", batch_size, least=2, whole=True)
        self.learning_rate = check_number("learning_rate", learning_rate, above=0)

    @abstractmethod
    def loss(self, u: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss of projections u [B, bits] of centred descriptors x [B, D]."""

    def fit(self, data: FitData, trainer: TrainerFactory | None = None) -> None:
        """See :meth:`Hasher.fit`; the pairs are not used."""
        mean, deviation = fit_moments(data.rows)
        scale = float(np.sqrt(np.mean(np.square(deviation))))
        stage = SignStage(
            self.method,
            self.loss,
            bits=self.bits,
            mean=torch.from_numpy(mean),
            scale=scale,
            learning_rate=self.learning_rate,
            weight=self.weight,
            seed=self.seed,
        )
        batches = DescriptorBatches(data.without_pairs(), self.batch_size, self.seed)
        fit_module(stage, batches, trainer, self.method, self.max_epochs)
        self.state = {"mean": torch.from_numpy(mean), "projection": stage.projection.detach().clone()}


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
        loss: Loss,
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


def cosine_loss(codes: torch.Tensor, descriptors: torch.Tensor) -> torch.Tensor:
    """Return the mean over pairs of (cos of codes - cos of descriptors)^2, a scalar.

    The first half of the rows is paired with the second half (an odd last row is left out).

    Args:
        codes: [B, bits].
        descriptors: [B, D].
    """
    half = len(codes) // 2
    code, target = (F.cosine_similarity(t[:half], t[half : 2 * half]) for t in (codes, descriptors))
    return F.mse_loss(code, target)
