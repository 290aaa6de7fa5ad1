"""Lists of phases with names of their own: an RBM stack, and the stack fine-tuned on pairs or on triplets.

They differ from :class:`~niphash.hashing.rbm.network_hasher.NetworkHasher` in their options alone: those of
the phases stand beside those of the network, so ``hashing.iterations=200`` needs no number of a phase.
"""

import inspect
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, ClassVar, Literal, TypeVar, get_args

from niphash.hashing.checks import check_choice
from niphash.hashing.rbm.layers import RandomWeights, RBMLayers
from niphash.hashing.rbm.network_hasher import NetworkHasher, Recenter
from niphash.hashing.rbm.phase import Phase
from niphash.hashing.rbm.rbm import VisibleUnits
from niphash.hashing.rbm.scaling import Scaling
from niphash.hashing.rbm.siamese import SiamesePairs
from niphash.hashing.rbm.triplet import NeighbourTriplets

Start = Literal["rbm", "random", "unit"]
Preset = TypeVar("Preset", bound=NetworkHasher)


def _with_options(hasher: type[Preset]) -> type[Preset]:
    """Show the options of the phases in the signature of ``hasher``, where help and checks look for them."""
    own: dict[str, inspect.Parameter] = {}
    for kind in reversed(hasher.__mro__[: hasher.__mro__.index(NetworkHasher)]):
        own |= inspect.signature(kind.__init__).parameters  # type: ignore[misc]  # of each class its own
    shown = [p for name, p in own.items() if name != "self" and p.kind is not p.VAR_KEYWORD]
    for phase in hasher.phase_types:  # type: ignore[attr-defined]
        shown += inspect.signature(phase).parameters.values()
    hasher.__signature__ = inspect.Signature(sorted(shown, key=lambda p: p.kind))  # type: ignore[attr-defined]
    return hasher


@_with_options
class RBMStack(NetworkHasher):
    """A greedy stack of RBMs.

    Args:
        bits: See :class:`NetworkHasher`, as for the next five.
        seed: As above.
        layers: As above.
        visible: As above.
        recenter: As above.
        scaling: As above.
        options: Options of the phases :attr:`phase_types`, by name.
    """

    #: What trains the network, by default.
    phase_types: ClassVar[tuple[type[Phase], ...]] = (RBMLayers,)

    def __init__(
        self,
        bits: int,
        seed: int = 0,
        layers: Sequence[int] | None = None,
        visible: VisibleUnits = "gaussian",
        recenter: Recenter = "fit",
        scaling: Scaling = "auto",
        **options: Any,
    ) -> None:
        phases = self.phases_of(options)
        super().__init__(bits, seed, layers, visible, recenter, scaling, phases=phases)

    def phases_of(self, options: dict[str, Any]) -> list[Phase]:
        """Return the phases with their part of ``options``; TypeError if none has such an option."""
        names = [{field.name for field in fields(phase)} for phase in self.phase_types]
        for option in options:
            if not any(option in own for own in names):
                raise TypeError(f"{type(self).__name__} has no option {option}")
        return [
            phase(**{key: value for key, value in options.items() if key in own})
            for phase, own in zip(self.phase_types, names, strict=True)
        ]

    def place(self, number: int) -> str:
        """See :meth:`NetworkHasher.place`: the options of all phases stand side by side."""
        return "hashing"


@_with_options
class RBMSiamese(RBMStack):
    """An RBM stack, trained without labels, then fine-tuned on pairs; arguments as of :class:`RBMStack`."""

    phase_types = (RBMLayers, SiamesePairs)


@_with_options
class RBMTriplet(RBMStack):
    """An RBM stack fine-tuned on triplets; arguments as of :class:`RBMStack`, and one more.

    Args:
        start: ``"rbm"``: the stack is trained; ``"random"``: :class:`RandomWeights` take its place;
            ``"unit"``: so do those of length one.
    """

    phase_types = (RBMLayers, NeighbourTriplets)

    def __init__(self, bits: int, seed: int = 0, *, start: Start = "rbm", **options: Any):
        self.start = check_choice("start", start, get_args(Start))
        super().__init__(bits, seed, **options)

    def phases_of(self, options: dict[str, Any]) -> list[Phase]:
        """See :meth:`RBMStack.phases_of`."""
        first, *others = super().phases_of(options)
        first.check_options("hashing")  # whether it is used or not
        return [first if self.start == "rbm" else RandomWeights(unit_norm=self.start == "unit"), *others]
