"""What every re-ranking offers: some photos in the order of a search, in a better order."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from niphash.data.images import ImageSet
from niphash.errors import InputError
from niphash.options import check_number


@dataclass(frozen=True)
class DescribedPhotos:
    """A query, or the candidates for it in the order in which a search found them.

    Attributes:
        images: n photos (one for a query).
        descriptors: float [n, D], L2-normalised, rows of NaN for photos that cannot be read; ``None`` where
            nobody described them, which suffices for what looks at the photos themselves.
    """

    images: ImageSet
    descriptors: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> "DescribedPhotos":
        """Return the first ``count`` of them."""
        if count >= len(self):
            return self
        rows = None if self.descriptors is None else self.descriptors[:count]
        return DescribedPhotos(self.images.subset(range(count)), rows)


class Reranked(NamedTuple):
    """The candidates in their new order.

    Attributes:
        order: int64 [n], numbers of the candidates, best first; each is there once.
        scores: float32 [n], in that order, of the kind that the re-ranking has (cosines, inliers); NaN for a
            candidate that it could say nothing of, or that was behind the first that it looks at.
        regions: Of each candidate in that order the outline of the query in it, float32 [4, 2], x and y in
            pixels of the candidate's photo from the query's left upper corner clockwise; ``None`` where no
            region is known. It reaches out of the photo where the query does.
    """

    order: np.ndarray
    scores: np.ndarray
    regions: tuple[np.ndarray | None, ...]


class Reranker(ABC):
    """Orders the first results of a search anew; those behind them stay where they are.

    Args:
        first: How many results are looked at.
    """

    def __init__(self, first: int = 50) -> None:
        self.first = int(check_number("first", first, least=1, whole=True, group="rerank"))

    #: Whether it compares float descriptors, so that query and candidates must have them.
    needs_descriptors: bool = False

    def rerank(self, query: DescribedPhotos, candidates: DescribedPhotos) -> Reranked:
        """Return the candidates in their new order.

        Args:
            query: One photo.
            candidates: What a search found, nearest first; unreadable photos keep their order behind.

        Raises:
            UnreadableImage: the query's photo is looked at and cannot be read.
            InputError: descriptors are needed and missing.
        """
        if self.needs_descriptors and (query.descriptors is None or candidates.descriptors is None):
            raise InputError(
                "this re-ranking compares float descriptors; describe query and candidates first"
            )
        looked_at = candidates.first(self.first)
        scores, regions = self.scores(query, looked_at) if len(looked_at) else (np.empty(0, np.float32), ())
        places = np.where(np.isnan(scores), -np.inf, self.counted(scores))
        order = np.argsort(-places, kind="stable")
        rest = np.arange(len(looked_at), len(candidates))
        return Reranked(
            np.concatenate([order, rest]).astype(np.int64),
            np.concatenate([scores[order], np.full(len(rest), np.nan)]).astype(np.float32),
            (*(regions[i] for i in order.tolist()), *(None,) * len(rest)),
        )

    def prepare(self, images: ImageSet) -> None:  # noqa: B027 - most keep nothing
        """Compute and keep what is needed of photos that will be candidates."""

    def counted(self, scores: np.ndarray) -> np.ndarray:
        """Return what is sorted by, float [n]; equal values keep the order of the search."""
        return scores

    @abstractmethod
    def scores(
        self, query: DescribedPhotos, candidates: DescribedPhotos
    ) -> tuple[np.ndarray, Sequence[np.ndarray | None]]:
        """Return float32 [n], greater is better and NaN is none, and the region of each candidate.

        Args:
            query: One photo.
            candidates: At least one, in the order of the search.
        """
