"""From the configuration in a model folder to objects, without believing it.

A model folder is something people share. Its configuration is plain data: nothing in it is resolved or
imported. The classes come from a closed table, the public names in ``MODEL_PARTS`` of ``niphash.descriptors``
and ``niphash.hashing``, and take nothing but plain values and each other.
"""

import inspect
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from niphash.errors import InputError
from niphash.plain import printable

ROOMS = ("niphash.descriptors", "niphash.hashing")
TARGET = "_target_"
LARGEST_NUMBER = 10**7  # of any option but a seed: no layer, orbit or sample is larger
#: The first format named modules; where a name itself has changed since.
RENAMED = {"niphash.descriptors.whitening.none": "niphash.descriptors.no_stage"}


def public_name(target: str) -> str:
    """Return the public name of a class that the first format named by its module, else ``target``."""
    parts = target.split(".")
    if target in RENAMED or len(parts) != 4 or parts[0] != "niphash":
        return RENAMED.get(target, target)
    return ".".join((*parts[:2], parts[3]))


class PartTable:
    """The classes and functions that a model's configuration may name.

    Args:
        trust: Dotted names (``"my_package.MyPooling"``) of the user's own that it may name beside ours; they
            are imported when they are first used.
    """

    def __init__(self, trust: Iterable[str] = ()) -> None:
        self._rooms = {room: import_module(room).MODEL_PARTS for room in ROOMS}
        self._trusted = frozenset(trust)

    def __getitem__(self, name: str) -> Any:
        """Return what the public name ``name`` stands for; KeyError where it is not in the table."""
        home, _, own = name.rpartition(".")
        if name not in self._trusted and own not in self._rooms.get(home, ()):
            raise KeyError(name)
        return getattr(import_module(home), own)


def check_plain(node: Any, source: Path, key: str = "") -> None:
    """Refuse what is not plain data of reasonable size, and anything that would be resolved or instantiated.

    Args:
        node: Containers, text and numbers, as read from YAML.
        source: The file they came from, for the message.
        key: Where in it.

    Raises:
        InputError: an interpolation (``${``), a key that Hydra would obey, a number or a type no option has.
    """
    if isinstance(node, Mapping):
        for name, value in node.items():
            if not isinstance(name, str) or (name.startswith("_") and name != TARGET):
                raise _refused(source, f"the key {printable(str(name))!r}")
            check_plain(value, source, name)
    elif isinstance(node, list):
        for value in node:
            check_plain(value, source, key)
    elif isinstance(node, str):
        if "${" in node:
            raise _refused(source, f"{printable(key)}: an interpolation ({printable(node[:40])})")
    elif isinstance(node, int | float):
        if abs(node) > LARGEST_NUMBER and key != "seed":
            raise _refused(source, f"{printable(key)}: {node:.3g}, a number that no option takes")
    elif node is not None:
        raise _refused(source, f"{printable(key)}: a {type(node).__name__}")


def build_part(node: Any, table: PartTable, source: Path) -> Any:
    """Return the object that plain data stands for: a mapping with ``_target_`` is a part of the model.

    Args:
        node: Checked by :func:`check_plain`.
        table: What may be named.
        source: The file it came from, for the message.

    Raises:
        InputError: a name that is not in the table, an option the part does not have, a value it cannot take.
    """
    if isinstance(node, list):
        return [build_part(value, table, source) for value in node]
    if not isinstance(node, Mapping):
        return node
    options = {key: build_part(value, table, source) for key, value in node.items() if key != TARGET}
    if TARGET not in node:
        return options
    name = public_name(str(node[TARGET]))
    try:
        part = table[name]
        inspect.signature(part).bind(**options)
        return part(**options)
    except KeyError:
        raise _refused(source, f"{printable(name)!r}, which is no part of niphash") from None
    except InputError:
        raise
    except (TypeError, ValueError, ArithmeticError, MemoryError, AttributeError) as error:
        raise InputError(
            f"{source}: {printable(name)} cannot be made with these options "
            f"({printable(str(error).splitlines()[0] if str(error) else type(error).__name__)})"
        ) from error


def _refused(source: Path, what: str) -> InputError:
    return InputError(f"{source}: names {what}; the model is refused")
