"""The phases that a network begins with: RBM layers trained one after the other, or random weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch.nn import functional as F

from niphash.errors import InputError
from niphash.hashing.rbm.network import Stack
from niphash.hashing.rbm.phase import Phase, Schedule
from niphash.hashing.rbm.regularizers import RegularizerName, regularizer
from niphash.options import check_choice, check_number
from niphash.training.fit_data import FitData
from niphash.training.rows import evenly_spaced
from niphash.training.trainer import TrainerFactory

if TYPE_CHECKING:
    from niphash.hashing.rbm.stage import RBMTraining

#: Of a Gaussian layer, times its hidden units: a fifth of the rate at which it diverges. Between 0.016 and
#: 0.06 for 64 units, codes of held-out views of Caltech photos differ by no more than two seeds do.
GAUSSIAN_RATE = 1.6
LOGGED_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class RBMLayers(Phase):
    """Every layer learns, as an RBM, from the activations of the frozen layers below it.

    Attributes:
        regularizer: Penalty on the activations: ``"none"``, ``"sparsity"`` or ``"rbmh"``.
        regularize: The layers it is laid on: ``"top"``, whose activations become bits, or ``"all"``.
        regularizer_weight: lambda.
        sparsity_target: p of ``"sparsity"``.
        max_epochs: Passes over the fit set, each layer.
        min_steps: A layer over a small fit set makes more passes, until it has made this many steps.
        batch_size: Descriptors of a step, over all processes.
        learning_rate: Learning rate of weights and biases; at most ``GAUSSIAN_RATE`` / H in a Gaussian
            layer of H hidden units, which diverges above some 8 / H.
        momentum: Momentum of stochastic gradient descent.
        weight_decay: L2 penalty on the weights.
        schedule: The learning rate falls in a ``"linear"`` way to zero, or is ``"constant"``.
        cd_steps: Gibbs steps k of contrastive divergence.
        persistent: Persistent chains (PCD).
        mean_field: Visible units of the chain take their expectation in place of a sample.
        init_std: Standard deviation of the initial weights.
    """

    kind: ClassVar[str] = "layer"
    starts: ClassVar[bool] = True

    regularizer: RegularizerName = "rbmh"
    regularize: Literal["top", "all"] = "top"
    regularizer_weight: float = 1.0
    sparsity_target: float = 0.5
    max_epochs: int = 30
    min_steps: int = 1500
    batch_size: int = 100
    learning_rate: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = "linear"
    cd_steps: int = 1
    persistent: bool = False
    mean_field: bool = True
    init_std: float = 0.01

    def check_options(self, place: str) -> None:
        """See :meth:`Phase.check_options`."""
        check_choice("regularizer", self.regularizer, get_args(RegularizerName), group=place)
        check_choice("regularize", self.regularize, ("top", "all"), group=place)
        check_choice("schedule", self.schedule, get_args(Schedule), group=place)
        for option in ("persistent", "mean_field"):
            check_choice(option, getattr(self, option), (True, False), group=place)
        for option in ("max_epochs", "batch_size", "cd_steps"):
            check_number(option, getattr(self, option), least=1, whole=True, group=place)
        for option in ("learning_rate", "init_std"):
            check_number(option, getattr(self, option), above=0, group=place)
        for option in ("regularizer_weight", "weight_decay"):
            check_number(option, getattr(self, option), least=0, group=place)
        check_number("min_steps", self.min_steps, least=0, whole=True, group=place)
        check_number("momentum", self.momentum, least=0, below=1, group=place)
        check_number("sparsity_target", self.sparsity_target, above=0, below=1, group=place)

    def check(self, sizes: Sequence[int], count: int, place: str) -> None:
        """See :meth:`Phase.check`."""
        if count < 2:
            raise InputError(f"{count} fit descriptors are too few for an RBM; give at least 2")

    def train(
        self, network: Stack, data: FitData, *, name: str, seed: int, trainer: TrainerFactory | None = None
    ) -> dict[str, Any]:
        """See :meth:`Phase.train`; the stages are ``<name>1``, ``<name>2``, ..."""
        for depth in range(len(network.rbms)):
            self._train_layer(network, depth, data, f"{name}{depth + 1}", seed, trainer)
        return {}

    def _train_layer(
        self, network: Stack, depth: int, data: FitData, name: str, seed: int, trainer: TrainerFactory | None
    ) -> None:
        """Train layer ``depth`` on the activations of the frozen layers below it."""
        from niphash.hashing.rbm.stage import RBMStage
        from niphash.training.fitting import fit_module
        from niphash.training.streams import DescriptorBatches

        rbm = network.rbms[depth]
        own_seed = int(np.random.SeedSequence([seed, depth]).generate_state(1)[0])
        rbm.initialise(self.init_std, torch.Generator().manual_seed(own_seed))
        below = network.below(depth)
        stage = RBMStage(
            name,
            rbm.requires_grad_(True),
            regularizer(self.regularizer, self.sparsity_target),
            self._training(network, depth),
            seed=own_seed,
            chains=min(self.batch_size, data.count),
            fit_rows=below(evenly_spaced(data.rows, LOGGED_ROWS)),
            held_out_rows=None if data.held_out is None else below(evenly_spaced(data.held_out, LOGGED_ROWS)),
            hyperparameters={**self.hyperparameters(network, seed), "layer": depth},
        )
        batches = DescriptorBatches(data, self.batch_size, own_seed, below)
        epochs = max(self.max_epochs, -(-self.min_steps // len(batches.stream)))
        fit_module(stage, batches, trainer, name, epochs)
        rbm.requires_grad_(False)

    def _training(self, network: Stack, depth: int) -> "RBMTraining":
        """Return how layer ``depth`` learns."""
        from niphash.hashing.rbm.stage import RBMTraining

        values = {field.name: getattr(self, field.name) for field in fields(RBMTraining)}
        rbm = network.rbms[depth]
        if rbm.visible_units == "gaussian":
            values["learning_rate"] = min(self.learning_rate, GAUSSIAN_RATE / len(rbm.hidden_bias))
        below_top = self.regularize == "top" and depth + 1 < len(network.rbms)
        if self.regularizer == "none" or below_top:
            values["regularizer_weight"] = 0.0
        return RBMTraining(**values)


@dataclass(frozen=True, kw_only=True)
class RandomWeights(Phase):
    """The weights of Glorot & Bengio (2010), N(0, 2 / (V + H)) in a layer of V visible and H hidden units.

    Attributes:
        unit_norm: The weights of each hidden unit have length one in place of that variance (UTH, section 3).
    """

    kind: ClassVar[str] = "random"
    starts: ClassVar[bool] = True

    unit_norm: bool = False

    def check_options(self, place: str) -> None:
        """See :meth:`Phase.check_options`."""
        check_choice("unit_norm", self.unit_norm, (True, False), group=place)

    def train(
        self, network: Stack, data: FitData, *, name: str, seed: int, trainer: TrainerFactory | None = None
    ) -> dict[str, Any]:
        """Draw the weights; nothing is learned."""
        generator = torch.Generator().manual_seed(seed)
        for layer in network.rbms:
            layer.initialise(math.sqrt(2 / sum(layer.weight.shape)), generator)
            if self.unit_norm:
                layer.weight.copy_(F.normalize(layer.weight, dim=1))
        return {}
