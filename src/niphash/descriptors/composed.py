"""A describer made of parts: its state is one flat dictionary of their tensors."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch

from niphash.descriptors.describer import Describer
from niphash.errors import InputError


class ComposedDescriber(Describer):
    """A describer whose tensors are those of its parts, each under ``<part>.<name>``."""

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, Any]:
        """The parts by name: anything with ``state_dict()`` and ``load_state_dict()``."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the tensors of every part under ``<part>.<name>``."""
        return {f"{part}.{n}": t for part, owner in self.parts.items() for n, t in owner.state_dict().items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` returned.

        Raises:
            InputError: a tensor is missing, unknown or of another shape.
        """
        parts = self.parts
        if foreign := sorted({name.split(".")[0] for name in state} - parts.keys()):
            raise InputError(f"unknown tensors {', '.join(foreign)}.* in a model of {', '.join(parts)}")
        for part, owner in parts.items():
            prefix = f"{part}."
            own = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
            try:
                owner.load_state_dict(own)
            except (RuntimeError, KeyError) as error:
                raise InputError(
                    f"the stored tensors of {part!r} do not fit its configuration; load the model with the "
                    "config.yaml that it was saved with"
                ) from error
