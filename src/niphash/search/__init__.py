"""Bits to ranking: exact search of codes and of floats, and the ranking they hand on.

The indexes are imported on first use (PEP 562), so that ``import niphash.search`` stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from niphash.search.clickhouse_index import ClickHouseIndex
    from niphash.search.dask_index import DaskIndex
    from niphash.search.faiss_index import FaissIndex
    from niphash.search.index import Index
    from niphash.search.segmented import FlatIndex, MultiIndex
    from niphash.search.sharded import ShardedIndex
    from niphash.search.stored import StoredIndex, open_index
    from niphash.search.torch_index import TorchIndex

_MODULES = {
    "ClickHouseIndex": "clickhouse_index",
    "DaskIndex": "dask_index",
    "FaissIndex": "faiss_index",
    "FlatIndex": "segmented",
    "Index": "index",
    "MultiIndex": "segmented",
    "ShardedIndex": "sharded",
    "StoredIndex": "stored",
    "TorchIndex": "torch_index",
    "open_index": "stored",
}
__all__ = [
    "ClickHouseIndex",
    "DaskIndex",
    "FaissIndex",
    "FlatIndex",
    "Index",
    "MultiIndex",
    "ShardedIndex",
    "StoredIndex",
    "TorchIndex",
    "open_index",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _MODULES:
        return getattr(import_module(f"niphash.search.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'niphash.search' has no attribute {name!r}")
