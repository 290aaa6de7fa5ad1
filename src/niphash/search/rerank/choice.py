"""Re-rankings by name, as ``--rerank`` of the command line and a request to the service choose them."""

from pathlib import Path

from niphash.options import check_choice
from niphash.search.rerank.descriptors import FloatOrder, QueryExpansion
from niphash.search.rerank.geometric import Geometric
from niphash.search.rerank.reranker import Reranker

#: The names, as in ``conf/rerank``.
RERANKERS = ("none", "float", "geometric", "query_expansion")


def new_reranker(name: str, features: Path | str | None = None) -> Reranker | None:
    """Return a re-ranking with its default options; ``None`` for ``none``.

    Args:
        name: One of :data:`RERANKERS`.
        features: Where local features of candidates are kept; ``None`` keeps nothing.

    Raises:
        InputError: there is none of that name.
    """
    check_choice("rerank", name, RERANKERS, group="")
    if name == "geometric":
        return Geometric(folder=features)
    return {"none": None, "float": FloatOrder(), "query_expansion": QueryExpansion()}[name]
