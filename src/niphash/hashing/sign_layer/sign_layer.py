"""A linear layer to signs, learned so that the cosines of the descriptors survive in the codes."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.nn import functional as F

from niphash.hashing.checks import check_number
from niphash.hashing.signs import ProjectionHasher
from niphash.training.fitting import data_fingerprint, fit_module
from niphash.training.rows import fit_moments
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
        learning_rate: Of Adam.
    """

    #: Names the stage, its checkpoint and its log.
    method: str

    def __init__(
        self,
        bits: int,
        seed: int = 0,
        weight: float = 0.1,
        max_epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float = 0.001,
    ) -> None:
        super().__init__(bits, seed)
        self.weight = check_number("weight", weight, least=0)
        self.max_epochs = check_number("max_epochs", max_epochs, least=1, whole=True)
        self.batch_size = check_number("batch_size", batch_size, least=2, whole=True)
        self.learning_rate = check_number("learning_rate", learning_rate, above=0)

    @abstractmethod
    def loss(self, u: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss of projections u [B, bits] of centred descriptors x [B, D]."""

    def fit(
        self,
        descriptors: np.ndarray,
        pairs: np.ndarray | None = None,
        trainer: TrainerFactory | None = None,
        validation: np.ndarray | None = None,
    ) -> None:
        """See :meth:`Hasher.fit`; ``pairs`` and ``validation`` are not used."""
        mean, deviation = fit_moments(descriptors)
        scale = float(np.sqrt(np.mean(np.square(deviation))))
        stage = SignStage(self.loss, self.method, self.bits, mean, scale, self.learning_rate, self.seed)
        batches = DescriptorBatches(descriptors, self.batch_size, self.seed)
        identity = {**self._options(), "data": data_fingerprint(descriptors)}
        fit_module(stage, batches, trainer, self.method, self.max_epochs, identity)
        self.state = {"mean": torch.from_numpy(mean), "projection": stage.projection.detach().clone()}

    def _options(self) -> dict[str, Any]:
        keys = ("method", "bits", "seed", "weight", "max_epochs", "batch_size", "learning_rate")
        return {key: getattr(self, key) for key in keys}


class SignStage(pl.LightningModule):
    """Learn a projection [D, bits] by Adam; logs the loss after every epoch.

    Args:
        loss: What is made small.
        name: Prefix of what is logged.
        bits: Length of a code.
        mean: Of the fit set, float32 [D].
        scale: Overall standard deviation of the fit set.
        learning_rate: Of Adam.
        seed: Of the initial weights.
    """

    mean: torch.Tensor

    def __init__(
        self,
        loss: Loss,
        name: str,
        bits: int,
        mean: np.ndarray,
        scale: float,
        learning_rate: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.name = name
        self.learning_rate = learning_rate
        self.scale = scale
        self.register_buffer("mean", torch.from_numpy(mean))
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(len(mean), bits, generator=generator) / len(mean) ** 0.5
        self.projection = torch.nn.Parameter(start)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the loss on descriptors [B, D], B >= 2."""
        x = (batch - self.mean) / self.scale
        loss = self.loss(x @ self.projection, x)
        self.log(f"{self.name}/loss", loss.detach(), on_step=False, on_epoch=True, sync_dist=True)
        return loss

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
