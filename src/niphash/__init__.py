"""niphash: photos in, compact binary codes out that find the same object or scene again.

Heavy libraries are imported only where they are used, so ``import niphash`` stays quick.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from niphash.collection.collection import Collection
    from niphash.hub import from_pretrained
    from niphash.model import Model, load
    from niphash.search.index import Index

__version__ = "0.1.0"
__all__ = ["Collection", "Index", "Model", "__version__", "from_pretrained", "load", "open"]
_HOMES = {
    "Collection": "niphash.collection.collection",
    "Index": "niphash.search.index",
    "Model": "niphash.model",
    "from_pretrained": "niphash.hub",
    "load": "niphash.model",
}


def open(folder: "Path | str") -> "Collection":
    """Open a collection made by ``niphash index``: ``.search(photo)``, ``.add(paths)``, ``.remove(ids)``.

    Raises:
        InputError: the folder is no collection, or a damaged one, or of a newer format.
    """
    from niphash.collection.collection import Collection

    return Collection(folder)


def __getattr__(name: str) -> Any:
    """Import the public names on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'niphash' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
