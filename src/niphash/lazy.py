"""Rooms list what they export and import it on first use (PEP 562), so ``import niphash`` stays quick."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exports(room: str, *catalogues: Mapping[str, tuple[str, ...]]) -> tuple[Callable[[str], Any], list[str]]:
    """Return a room's ``__getattr__`` and ``__all__``.

    Args:
        room: Its ``__name__``.
        catalogues: The public names of each module, which is named from the room.
    """
    home = {n: f"{room}.{module}" for part in catalogues for module, names in part.items() for n in names}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        value = getattr(import_module(home[name]), name)
        setattr(sys.modules[room], name, value)
        return value

    return get, sorted(home)
