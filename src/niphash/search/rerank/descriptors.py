"""Re-ranking by float descriptors: what rounding to bits lost comes back, and neighbours widen the query."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from niphash.options import check_number
from niphash.search.rerank.reranker import DescribedPhotos, Reranker


class FloatOrder(Reranker):
    """The order of the cosines between float descriptors.

    Args:
        first: How many results are looked at.
    """

    needs_descriptors = True

    def scores(
        self, query: DescribedPhotos, candidates: DescribedPhotos
    ) -> tuple[np.ndarray, Sequence[np.ndarray | None]]:
        """Return cosines, float32 [n]."""
        asked, rows = _descriptors(query)[0], _descriptors(candidates)
        return (rows @ asked).astype(np.float32), (None,) * len(rows)


class QueryExpansion(Reranker):
    """The order by a query that its nearest neighbours were added to, each weighted by cosine ** alpha.

    ``alpha=0`` is the average (Chum, Philbin, Sivic, Isard & Zisserman, *Total Recall*, ICCV 2007, section
    4, here over global descriptors); above it neighbours count for less the farther they are (Radenovic,
    Tolias & Chum, TPAMI 2019, section 3.4). The query counts once.

    Args:
        first: How many results are looked at.
        neighbours: How many of them, by cosine, are added.
        alpha: Of the weights, 0 or more.
    """

    needs_descriptors = True

    def __init__(self, first: int = 50, neighbours: int = 10, alpha: float = 3.0) -> None:
        super().__init__(first)
        self.neighbours = int(check_number("neighbours", neighbours, least=1, whole=True, group="rerank"))
        self.alpha = float(check_number("alpha", alpha, least=0, group="rerank"))

    def scores(
        self, query: DescribedPhotos, candidates: DescribedPhotos
    ) -> tuple[np.ndarray, Sequence[np.ndarray | None]]:
        """Return cosines with the wider query, float32 [n]."""
        asked, rows = _descriptors(query)[0], _descriptors(candidates)
        cosines = rows @ asked
        near = np.argsort(np.where(np.isnan(cosines), np.inf, -cosines), kind="stable")[: self.neighbours]
        near = near[cosines[near] > 0]  # leaves NaN out
        wider = asked + cosines[near] ** self.alpha @ rows[near]
        wider = wider / np.maximum(np.linalg.norm(wider), np.finfo(np.float32).tiny)
        return (rows @ wider).astype(np.float32), (None,) * len(rows)


def _descriptors(photos: DescribedPhotos) -> np.ndarray:
    return np.asarray(cast(np.ndarray, photos.descriptors), np.float32)
