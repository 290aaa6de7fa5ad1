"""Re-ranking inside a collection: what was found by codes, ordered by what the photos themselves show."""

from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np

from niphash.collection.answers import Match
from niphash.collection.nearness import Reach
from niphash.config import compose
from niphash.data.images import ImageSet
from niphash.descriptors.describer import Describer, DescribeReport
from niphash.descriptors.store.store import DescriptorStore, describe_once
from niphash.search.rerank import new_reranker
from niphash.search.rerank.reranker import DescribedPhotos, Reranker


@dataclass(frozen=True)
class Reranking:
    """How the matches of a search are ordered anew.

    Attributes:
        reranker: What orders them.
        describer: Of the collection's model.
        store: Where described photos are looked up and kept; ``None`` describes candidates for each query.
    """

    reranker: Reranker
    describer: Describer
    store: DescriptorStore | None = None
    _one_writer: Lock = field(default_factory=Lock, repr=False, compare=False)

    def candidates(self, reach: Reach) -> Reach:
        """Return the reach of the search before: as many matches as are looked at."""
        return reach if reach.most is None else reach._replace(k=max(reach.most, self.reranker.first))

    def order(self, query: ImageSet, descriptor: np.ndarray, matches: tuple[Match, ...]) -> tuple[Match, ...]:
        """Return the matches in their new order, with scores and regions.

        Args:
            query: One photo, as it was described.
            descriptor: float32 [D], its descriptor.
            matches: Nearest first.

        Raises:
            UnreadableImage: the query's photo is looked at and cannot be read any more.
        """
        paths = tuple(match.path for match in matches)
        images = ImageSet(tuple(map(str, paths)), paths)
        candidates = DescribedPhotos(images, self._described(images))
        found = self.reranker.rerank(DescribedPhotos(query, descriptor[None]), candidates)
        return tuple(
            matches[row]._replace(
                score=None if np.isnan(score) else round(float(score), 6),
                region=None
                if region is None
                else [[round(float(x), 1) for x in corner] for corner in region],
            )
            for row, score, region in zip(found.order.tolist(), found.scores, found.regions, strict=True)
        )

    def _described(self, images: ImageSet) -> np.ndarray | None:
        if not self.reranker.needs_descriptors or not len(images):
            return None
        looked_at = images.subset(range(min(len(images), self.reranker.first)))
        report = DescribeReport()  # unreadable photos have rows of NaN and go behind
        if self.store is None:
            return self.describer.describe(looked_at, report)
        with self._one_writer:
            return describe_once(self.describer, looked_at, self.store, report)


def new_reranking(name: str, features: Path, describer: Describer) -> Reranking | None:
    """Return a re-ranking with its default options; ``None`` for ``none``.

    Args:
        name: As in ``conf/rerank``.
        features: Folder where local features of photos are kept.
        describer: Of the collection's model.

    Raises:
        InputError: there is none of that name.
    """
    reranker = new_reranker(name, features)
    if reranker is None:
        return None
    store = shared_store(describer) if reranker.needs_descriptors else None
    return Reranking(reranker, describer, store)


def shared_store(describer: Describer) -> DescriptorStore:
    """Return the store of described photos that all runs share."""
    return DescriptorStore.of(describer, Path(compose().paths.data_dir) / "descriptors")
