"""Hashing by a network of RBM layers that a list of phases trains, one after the other.

Lin, Morere et al., *DeepHash* (2017), section 3: the descriptor is standardised, or binarised at the mean of
the fit set, and each bit says whether the top layer's projection exceeds its mean (equation 6).
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch

from niphash.errors import InputError
from niphash.hashing.checks import check_bits, check_choice, check_dim, check_numbers, check_shape
from niphash.hashing.rbm.network import Stack
from niphash.hashing.rbm.phase import Phase
from niphash.hashing.rbm.rbm import VisibleUnits
from niphash.hashing.rbm.scaling import Scaling, VisibleScaling, axis_count, by_dimension, by_principal_axis
from niphash.hashing.signs import SignHasher
from niphash.training.fit_data import FitData
from niphash.training.rows import Rows, blocks, check_matrix
from niphash.training.trainer import TrainerFactory

LARGE_FIT_SET = 20_000
Recenter = Literal["fit", "index", "off"]


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


class NetworkHasher(SignHasher):
    """Signs of the top layer of a network, trained by phases.

    Args:
        bits: Length of a code.
        seed: Seed of initial weights, sampling and the order of the data.
        layers: Sizes of the hidden layers, bottom first; ``bits`` is appended when it is not the last.
            ``None``: :func:`default_layers`.
        visible: Kind of the first layer's visible units.
        scaling: What Gaussian units are: ``"dimension"`` the dimensions of the descriptor, each divided by
            its deviation (DeepHash); ``"principal"`` the first principal axes of the fit set, two a bit,
            see :func:`~niphash.hashing.rbm.scaling.by_principal_axis`; ``"auto"`` these, where the fit set
            has so many and the first layer is no wider.
        recenter: What the mean of the bits' thresholds is taken over: ``"fit"`` the fit set; ``"index"``
            the same until :meth:`recenter` is called with the indexed collection; ``"off"`` no mean, a bit
            is an activation above one half.
        phases: What trains the network, in order; the first sets the initial weights, and no other does.

    Raises:
        InputError: an option that cannot be.
    """

    def __init__(
        self,
        bits: int,
        seed: int = 0,
        layers: Sequence[int] | None = None,
        visible: VisibleUnits = "gaussian",
        recenter: Recenter = "fit",
        scaling: Scaling = "auto",
        *,
        phases: Sequence[Phase],
    ) -> None:
        self.bits = check_bits(bits)
        self.seed = seed
        self.layers = None if layers is None else with_bits(layers, bits)
        self.visible: VisibleUnits = check_choice("visible", visible, get_args(VisibleUnits))
        self.scaling: Scaling = check_choice("scaling", scaling, get_args(Scaling))
        self.recenter_on: Recenter = check_choice("recenter", recenter, get_args(Recenter))
        self.phases = tuple(phases)
        self._check_phases()
        #: The trained network; ``None`` before :meth:`fit` or :meth:`load_state_dict`.
        self.stack: Stack | None = None
        self._found: dict[str, Any] = {}

    def place(self, number: int) -> str:
        """Return where the options of phase ``number`` stand in the configuration."""
        return f"hashing.phases.{number}"

    def _check_phases(self) -> None:
        for number, phase in enumerate(self.phases):
            if not isinstance(phase, Phase):
                raise InputError(f"{self.place(number)}={phase}: is no phase; give one, such as RBMLayers")
            if phase.starts != (number == 0):
                what = "sets no initial weights" if number == 0 else "would draw the weights anew"
                raise InputError(
                    f"{self.place(number)}: {type(phase).__name__} {what}; begin with RBMLayers or "
                    "RandomWeights, and once only"
                )
            phase.check_options(self.place(number))
        if not self.phases:
            raise InputError("hashing.phases=[]: give one phase or more, such as RBMLayers")

    @property
    def needs_pairs(self) -> bool:  # type: ignore[override]  # decided by the phases
        """See :attr:`Hasher.needs_pairs`."""
        return any(phase.needs_pairs for phase in self.phases)

    @property
    def recenters_on_index(self) -> bool:  # type: ignore[override]  # decided by an option
        """See :attr:`Hasher.recenters_on_index`."""
        return self.recenter_on == "index"

    def hidden_sizes(self, dim: int, count: int) -> list[int]:
        """Return the sizes of the hidden layers for ``count`` fit descriptors of ``dim`` components."""
        if self.layers is not None:
            return self.layers
        return default_layers(self.visible_size(dim, count), self.bits, count)

    def visible_size(self, dim: int, count: int) -> int:
        """Return the number of visible units for ``count`` fit descriptors of ``dim`` components."""
        return axis_count(dim, self.bits) if self._sees_axes(dim, count) else dim

    def _sees_axes(self, dim: int, count: int) -> bool:
        if self.visible != "gaussian" or self.scaling == "dimension":
            return False
        axes = axis_count(dim, self.bits)
        return self.scaling == "principal" or (count > axes and (self.layers or [0])[0] <= axes)

    def check(self, dim: int, count: int) -> None:
        """See :meth:`Hasher.check`."""
        check_dim(self.bits, dim)
        hidden = self.hidden_sizes(dim, count)
        seen = self.visible_size(dim, count)
        if hidden[0] > seen:
            of = f"descriptors of {dim} dimensions" if seen == dim else f"the {seen} axes of hashing.scaling"
            raise InputError(f"hashing.layers={hidden} grows over {of}; give sizes that do not increase")
        if seen > count - 1 and self._sees_axes(dim, count):
            raise InputError(
                f"hashing.scaling=principal: {count} fit descriptors have no {seen} principal axes; give "
                "more photos, or hashing.scaling=dimension"
            )
        for number, phase in enumerate(self.phases):
            phase.check(hidden, count, self.place(number))

    def check_pairs(self, pairs: np.ndarray | None, count: int) -> None:
        """See :meth:`Hasher.check_pairs`."""
        for phase in self.phases:
            phase.check_pairs(pairs, count)

    def fit(self, data: FitData, trainer: TrainerFactory | None = None) -> None:
        """See :meth:`Hasher.fit`: scale, then train by every phase."""
        check_matrix(data.rows)
        self.check(data.dim, data.count)
        self.check_pairs(data.pairs, data.count)
        seen = self.visible_size(data.dim, data.count)
        if self._sees_axes(data.dim, data.count):
            scaling = by_principal_axis(data.rows, seen, self.seed)
        else:
            scaling = by_dimension(data.rows)
        stack = Stack([seen, *self.hidden_sizes(data.dim, data.count)], self.visible, scaling)
        self.stack = stack.requires_grad_(False).eval()
        self._train(range(len(self.phases)), data, trainer)

    def fine_tune(self, data: FitData, trainer: TrainerFactory | None = None) -> None:
        """Go on from the network as it was fitted or loaded: every phase but the first."""
        sizes = self._fitted().sizes[1:]
        for number, phase in enumerate(self.phases):
            phase.check(sizes, data.count, self.place(number))
        self.check_pairs(data.pairs, data.count)
        self._train(range(1, len(self.phases)), data, trainer)

    def _train(self, numbers: range, data: FitData, trainer: TrainerFactory | None) -> None:
        stack = self._fitted()
        without_pairs = data.without_pairs()
        for number in numbers:
            phase, (name, seed) = self.phases[number], self._stage(number)
            own = data if phase.needs_pairs else without_pairs
            found = phase.train(stack, own, name=name, seed=seed, trainer=trainer)
            prefix = "" if name == phase.kind else f"{name}/"
            self._found |= {f"{prefix}{key}": value for key, value in found.items()}
        if self.recenter_on != "off":
            self.recenter(data.rows)

    def _stage(self, number: int) -> tuple[str, int]:
        """Return name and seed of phase ``number``; the second of a kind draws other samples."""
        kinds = Counter(phase.kind for phase in self.phases[:number])
        kind = self.phases[number].kind
        if not kinds[kind]:
            return kind, self.seed
        return f"{kind}_{kinds[kind] + 1}", int(
            np.random.SeedSequence([self.seed, number]).generate_state(1)[0]
        )

    @property
    def dim(self) -> int:
        """See :attr:`SignHasher.dim`."""
        return 0 if self.stack is None else self.stack.mean.numel()

    def project_block(self, block: torch.Tensor) -> torch.Tensor:
        """See :meth:`SignHasher.project_block`: the top projections less their thresholds."""
        return self._fitted().project(block)

    def recenter(self, descriptors: Rows) -> None:
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
        scaling = VisibleScaling(state["mean"], state["scale"], state.get("axes"))
        stack = Stack(sizes, self.visible, scaling)
        stack.load_state_dict(state)
        self.stack = stack.requires_grad_(False).eval()

    def log_config(self) -> dict[str, Any]:
        """Return the layer sizes in use, and what the phases found."""
        return {"layers": [] if self.stack is None else self.stack.sizes, **self._found}

    def _fitted(self) -> Stack:
        if self.stack is None:
            raise RuntimeError("fit or load this hasher first")
        return self.stack
