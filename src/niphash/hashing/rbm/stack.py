"""RBM hashing: a greedy stack of restricted Boltzmann machines whose top layer gives the bits.

Lin, Morere et al., *DeepHash* (2017), section 3: the descriptor is binarised at the mean of the fit set,
each layer learns from the activations of the frozen layers below it, and each bit says whether the top
layer's projection exceeds its mean (equation 6).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch

from niphash.errors import InputError
from niphash.hashing.checks import (
    check_bits,
    check_choice,
    check_dim,
    check_number,
    check_numbers,
    check_shape,
)
from niphash.hashing.rbm.network import Stack, layer_input, some_rows
from niphash.hashing.rbm.rbm import VisibleUnits
from niphash.hashing.rbm.regularizers import RegularizerName, regularizer
from niphash.hashing.rbm.stage import RBMStage, RBMTraining
from niphash.hashing.signs import SignHasher
from niphash.training.fitting import data_fingerprint, fit_module
from niphash.training.rows import blocks, check_matrix, fit_moments
from niphash.training.streams import DescriptorBatches
from niphash.training.trainer import TrainerFactory

LARGE_FIT_SET = 20_000


def paper_layers(dim: int, bits: int) -> list[int]:
    """Return the hidden sizes of DeepHash (table 1) for a descriptor of ``dim`` components.

    8192-1024, 8192-4096-256, 8192-4096-2048-64 and 4096-1024, 4096-2048-256, 4096-2048-1024-64 all follow
    one rule: one layer down to an eighth of the input, two down to a 32nd, three below.
    """
    if bits * 8 >= dim:
        return [bits]
    return [dim // 2, bits] if bits * 32 >= dim else [dim // 2, dim // 4, bits]


def default_layers(dim: int, bits: int, count: int) -> list[int]:
    """Return the hidden sizes for ``count`` fit descriptors of ``dim`` components.

    Those of the papers where there is enough to learn them from; below :data:`LARGE_FIT_SET` descriptors
    one layer of an eighth of the input and the bits, 8192-1024-64 as in the authors' slides.
    """
    if count >= LARGE_FIT_SET:
        return paper_layers(dim, bits)
    return [dim // 8, bits] if dim // 8 > bits else [bits]


def with_bits(layers: Sequence[int], bits: int) -> list[int]:
    """Return ``layers`` with ``bits`` as the last.

    Raises:
        InputError: a size is no whole number from 1 on, sizes grow, or ``bits`` exceeds the last size.
    """
    sizes = check_numbers("layers", layers, least=1, whole=True)
    if sizes and bits > sizes[-1]:
        raise InputError(
            f"bits={bits} exceeds the last of hashing.layers={sizes}; give larger layers or fewer bits"
        )
    if any(above > below for below, above in pairwise(sizes)):
        raise InputError(f"hashing.layers={sizes} grows; give sizes that do not increase")
    return sizes if sizes and sizes[-1] == bits else [*sizes, bits]


GAUSSIAN_RATE = 0.008  # chosen on half of the UKBench photos, for 64 and 1024 hidden units


class RBMStack(SignHasher):
    """Hashing by a greedy stack of RBMs.

    Args:
        bits: Length of a code.
        seed: Of initial weights, sampling and the order of the data.
        layers: Sizes of the hidden layers, bottom first; ``bits`` is appended when it is not the last.
            ``None``: :func:`default_layers`.
        visible: Kind of the first layer's visible units.
        regularizer: Penalty on the activations: ``"none"``, ``"sparsity"`` or ``"rbmh"``.
        regularize: The layers it is laid on: ``"top"``, whose activations become bits, or ``"all"``.
        regularizer_weight: lambda.
        sparsity_target: p of ``"sparsity"``.
        recenter: What the mean of the bits' thresholds is taken over: ``"fit"`` the fit set; ``"index"``
            the same until :meth:`recenter` is called with the indexed collection; ``"off"`` no mean, a bit
            is an activation above one half.
        max_epochs: Passes over the fit set, each layer.
        min_steps: A layer over a small fit set makes more passes, until it has made this many steps.
        batch_size: Descriptors of a step, over all processes.
        learning_rate: Of weights and biases; at most ``GAUSSIAN_RATE`` / sqrt(H) in a Gaussian layer of H
            hidden units, which saturates sooner and diverges above some 8 / H.
        momentum: Of stochastic gradient descent.
        weight_decay: L2 penalty on the weights.
        schedule: Of the learning rate, ``"constant"`` or ``"linear"`` (to zero).
        cd_steps: Gibbs steps k of contrastive divergence.
        persistent: Persistent chains (PCD).
        mean_field: Visible units of the chain take their expectation in place of a sample.
        init_std: Standard deviation of the initial weights.

    Raises:
        InputError: an option that cannot be.
    """

    def __init__(
        self,
        bits: int,
        seed: int = 0,
        layers: Sequence[int] | None = None,
        visible: VisibleUnits = "gaussian",
        regularizer: RegularizerName = "rbmh",
        regularize: Literal["top", "all"] = "top",
        regularizer_weight: float = 1.0,
        sparsity_target: float = 0.5,
        recenter: Literal["fit", "index", "off"] = "fit",
        max_epochs: int = 30,
        min_steps: int = 300,
        batch_size: int = 100,
        learning_rate: float = 0.03,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        schedule: Literal["constant", "linear"] = "constant",
        cd_steps: int = 1,
        persistent: bool = False,
        mean_field: bool = True,
        init_std: float = 0.01,
    ) -> None:
        self.bits = check_bits(bits)
        self.seed = seed
        self.layers = None if layers is None else with_bits(layers, bits)
        self.visible: VisibleUnits = check_choice("visible", visible, get_args(VisibleUnits))
        self.regularizer: RegularizerName = check_choice(
            "regularizer", regularizer, get_args(RegularizerName)
        )
        self.regularize = check_choice("regularize", regularize, ("top", "all"))
        self.sparsity_target = check_number("sparsity_target", sparsity_target, above=0, below=1)
        self.recenter_on = check_choice("recenter", recenter, ("fit", "index", "off"))
        self.max_epochs = check_number("max_epochs", max_epochs, least=1, whole=True)
        self.min_steps = check_number("min_steps", min_steps, least=0, whole=True)
        self.batch_size = check_number("batch_size", batch_size, least=1, whole=True)
        self.init_std = check_number("init_std", init_std, above=0)
        check_number("regularizer_weight", regularizer_weight, least=0)
        self.training = RBMTraining(
            learning_rate=check_number("learning_rate", learning_rate, above=0),
            momentum=check_number("momentum", momentum, least=0, below=1),
            weight_decay=check_number("weight_decay", weight_decay, least=0),
            schedule=check_choice("schedule", schedule, ("constant", "linear")),
            cd_steps=check_number("cd_steps", cd_steps, least=1, whole=True),
            persistent=check_choice("persistent", persistent, (True, False)),
            mean_field=check_choice("mean_field", mean_field, (True, False)),
            regularizer_weight=regularizer_weight if regularizer != "none" else 0.0,
        )
        #: The trained network; ``None`` before :meth:`fit` or :meth:`load_state_dict`.
        self.stack: Stack | None = None

    def hidden_sizes(self, dim: int, count: int) -> list[int]:
        """Return the sizes of the hidden layers for ``count`` fit descriptors of ``dim`` components."""
        return self.layers if self.layers is not None else default_layers(dim, self.bits, count)

    def check(self, dim: int, count: int) -> None:
        """See :meth:`Hasher.check`."""
        check_dim(self.bits, dim)
        sizes = [dim, *self.hidden_sizes(dim, count)]
        if any(above > below for below, above in pairwise(sizes)):
            raise InputError(
                f"hashing.layers={sizes[1:]} grows over descriptors of {dim} dimensions; "
                "give sizes that do not increase"
            )
        if count < 2:
            raise InputError(f"{count} fit descriptors are too few for an RBM; give at least 2")

    def fit(
        self,
        descriptors: np.ndarray,
        pairs: np.ndarray | None = None,
        trainer: TrainerFactory | None = None,
        validation: np.ndarray | None = None,
    ) -> None:
        """See :meth:`Hasher.fit`; ``pairs`` are not used."""
        check_matrix(descriptors)
        count, dim = descriptors.shape
        self.check(dim, count)
        mean, scale = fit_moments(descriptors)
        stack = Stack([dim, *self.hidden_sizes(dim, count)], self.visible)
        stack.mean, stack.scale = torch.from_numpy(mean), torch.from_numpy(scale)
        stack.requires_grad_(False).eval()
        for depth in range(len(stack.rbms)):
            self._fit_layer(stack, depth, descriptors, trainer, validation)
        self.stack = stack
        if self.recenter_on != "off":
            self.recenter(descriptors)

    def _fit_layer(
        self,
        stack: Stack,
        depth: int,
        descriptors: np.ndarray,
        trainer: TrainerFactory | None,
        validation: np.ndarray | None,
    ) -> None:
        """Train layer ``depth`` on the activations of the frozen layers below it."""
        rbm = stack.rbms[depth]
        seed = int(np.random.SeedSequence([self.seed, depth]).generate_state(1)[0])
        rbm.initialise(self.init_std, torch.Generator().manual_seed(seed))
        below = stack.below(depth)
        name = f"layer{depth + 1}"
        stage = RBMStage(
            rbm.requires_grad_(True),
            regularizer(self.regularizer, self.sparsity_target),
            self._training_of(stack, depth),
            seed,
            chains=min(self.batch_size, len(descriptors)),
            name=name,
            fit_rows=below(some_rows(descriptors)),
            held_out_rows=None if validation is None else below(some_rows(validation)),
        )
        identity = {**self._identity(), "layer": depth, "data": data_fingerprint(descriptors)}
        rows, rest = layer_input(stack, depth, descriptors)
        batches = DescriptorBatches(rows, self.batch_size, seed, rest)
        epochs = max(self.max_epochs, -(-self.min_steps // len(batches.stream)))
        fit_module(stage, batches, trainer, name, epochs, identity)
        rbm.requires_grad_(False)

    def _training_of(self, stack: Stack, depth: int) -> RBMTraining:
        """Return how layer ``depth`` learns."""
        rbm, options = stack.rbms[depth], self.training
        if rbm.visible_units == "gaussian":
            cap = GAUSSIAN_RATE / math.sqrt(len(rbm.hidden_bias))
            options = replace(options, learning_rate=min(options.learning_rate, cap))
        if self.regularize == "top" and depth + 1 < len(stack.rbms):
            options = replace(options, regularizer_weight=0.0)
        return options

    def _identity(self) -> dict[str, Any]:
        """Return everything that decides the outcome of a fit but the descriptors."""
        own = {key: getattr(self, key) for key in _IDENTITY}
        return {**own, **asdict(self.training)}

    @property
    def dim(self) -> int:
        """See :attr:`SignHasher.dim`."""
        return 0 if self.stack is None else self.stack.sizes[0]

    def project_block(self, block: torch.Tensor) -> torch.Tensor:
        """See :meth:`SignHasher.project_block`: the top projections less their thresholds."""
        return self._fitted().project(block)

    def recenter(self, descriptors: np.ndarray) -> None:
        """Set every threshold to the mean of its projection over ``descriptors`` (DeepHash, equation 6)."""
        check_shape(descriptors, self.dim)
        stack = self._fitted()
        total = torch.zeros(self.bits, dtype=torch.float64)
        for block in blocks(descriptors):
            with torch.inference_mode():
                total += stack(torch.from_numpy(block)).projection.sum(0, dtype=torch.float64)
        stack.threshold = (total / len(descriptors)).float()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the tensors of :class:`Stack`."""
        return dict(self._fitted().state_dict())

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` returned.

        Raises:
            InputError: the state belongs to another code length.
        """
        weights = [state[key] for key in sorted(k for k in state if k.endswith(".weight"))]
        sizes = [weights[0].shape[1], *(len(weight) for weight in weights)]
        if sizes[-1] != self.bits:
            raise InputError(f"this model makes codes of {sizes[-1]} bits, not bits={self.bits}")
        stack = Stack(sizes, self.visible)
        stack.load_state_dict(state)
        self.stack = stack.requires_grad_(False).eval()

    def log_config(self) -> dict[str, Any]:
        """Return the layer sizes in use."""
        return {"layers": [] if self.stack is None else self.stack.sizes}

    def _fitted(self) -> Stack:
        if self.stack is None:
            raise RuntimeError("fit or load this hasher first")
        return self.stack


_IDENTITY = (
    "bits",
    "seed",
    "layers",
    "visible",
    "regularizer",
    "regularize",
    "sparsity_target",
    "max_epochs",
    "min_steps",
    "batch_size",
    "init_std",
)
