"""A linear layer to signs, learned so that the cosines of the descriptors survive in the codes."""

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from niphash.hashing.checks import check_number
from niphash.hashing.signs import ProjectionHasher
from niphash.training.fit_data import FitData
from niphash.training.rows import fit_moments
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
        from niphash.hashing.sign_layer.sign_stage import SignStage
        from niphash.training.fitting import fit_module
        from niphash.training.streams import DescriptorBatches

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
