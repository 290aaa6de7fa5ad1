"""niphash: photos in, compact binary codes out that find the same object or scene again.

Heavy libraries are imported only where they are used, so ``import niphash`` stays quick.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from niphash.model import Model, load

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import the public names of :mod:`niphash.model` on first use (PEP 562)."""
    if name in ("Model", "load"):
        from niphash import model

        return getattr(model, name)
    raise AttributeError(f"module 'niphash' has no attribute {name!r}")
