"""Re-ranking: the first results of a search, ordered anew by what a code cannot hold."""

from niphash.lazy import exports

_PARTS = {
    "reranker": ("DescribedPhotos", "Reranked", "Reranker"),  # what every re-ranking offers
    "descriptors": ("FloatOrder", "QueryExpansion"),  # by float descriptors
    "geometric": ("Geometric",),  # by local features that one map explains
    "choice": ("RERANKERS", "new_reranker"),  # by name, as on a command line
    "places": ("rerank_ranking",),  # a ranking with its first results in another order
    "regions": ("draw_region",),  # the query's outline in a candidate
}

__getattr__, __all__ = exports(__name__, _PARTS)
