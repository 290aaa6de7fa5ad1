"""Re-ranking by geometry: how many local features of the query one map takes to those of a candidate."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from niphash.data.images import ImageSet, UnreadableImage
from niphash.options import check_choice, check_number
from niphash.parallel import map_ahead
from niphash.progress import track
from niphash.search.rerank.feature_store import FeatureStore
from niphash.search.rerank.features import FeatureExtractor, Features
from niphash.search.rerank.matching import MAPS, MapName, Search, fit_map, match, outline
from niphash.search.rerank.reranker import DescribedPhotos, Reranker


class Geometric(Reranker):
    """The order of the inliers of a homography (or similarity) between local features.

    In two steps: the query's strongest points are matched with those of every candidate; the candidates with
    most matches are matched whole, and a map is fitted. Candidates with fewer inliers than ``minimum`` keep
    the order of the search behind the others.

    The constants were chosen on random views of held-out photos, see docs/reranking.md.

    Args:
        first: How many results are looked at.
        points: Local features of a photo, at most.
        longer_side: Pixels that larger photos are shrunk to.
        peak: Contrast below which a point is dropped, see :class:`niphash.descriptors.SiftDoG`.
        ratio: Of the ratio test.
        map: ``homography`` or ``similarity``.
        threshold: Pixels up to which a match agrees with a map.
        minimum: Inliers that a candidate needs to be moved.
        coarse: Points of the query in the first step.
        fine: Candidates in the second step.
        seed: Of the draws.
        folder: Where the features of candidates are kept; ``None`` keeps nothing.
    """

    def __init__(
        self,
        first: int = 50,
        points: int = 1000,
        longer_side: int = 480,
        peak: float = 0.01,
        ratio: float = 0.8,
        map: MapName = "homography",
        threshold: float = 4.0,
        minimum: int = 7,
        coarse: int = 100,
        fine: int = 10,
        seed: int = 0,
        folder: Path | str | None = None,
    ) -> None:
        super().__init__(first)
        self.extractor = FeatureExtractor(points, longer_side, peak)
        self.store = FeatureStore(self.extractor, folder)
        self.ratio = float(check_number("ratio", ratio, above=0, below=1, group="rerank"))
        self.map: MapName = check_choice("map", map, MAPS, group="rerank")
        self.threshold = float(check_number("threshold", threshold, above=0, group="rerank"))
        self.minimum = int(check_number("minimum", minimum, least=1, whole=True, group="rerank"))
        self.coarse = int(check_number("coarse", coarse, least=4, whole=True, group="rerank"))
        self.fine = int(check_number("fine", fine, least=1, whole=True, group="rerank"))
        self.seed = int(check_number("seed", seed, least=0, whole=True, group="rerank"))

    def prepare(self, images: ImageSet) -> None:
        """Compute and keep the features of photos that are not kept yet; unreadable ones are passed by."""
        rows = range(len(images))
        for _ in track(
            map_ahead(lambda row: self._features(images, row), rows), "find features", len(images)
        ):
            pass

    def counted(self, scores: np.ndarray) -> np.ndarray:
        """Return inliers, 0 below the minimum."""
        return np.where(scores >= self.minimum, scores, 0)

    def scores(
        self, query: DescribedPhotos, candidates: DescribedPhotos
    ) -> tuple[np.ndarray, Sequence[np.ndarray | None]]:
        """Return inliers and regions; NaN for photos that cannot be read, 0 for those of the first step."""
        own = self.extractor.extract(query.images.image(0))
        others = [self._features(candidates.images, row) for row in range(len(candidates))]
        scores = np.array([np.nan if other is None else 0 for other in others], np.float32)
        regions: list[np.ndarray | None] = [None] * len(others)
        prepared = [None if other is None else Search.of(other.descriptors) for other in others]
        matches = np.array(
            [
                0 if other is None else len(match(own.descriptors[: self.coarse], other, self.ratio).query)
                for other in prepared
            ]
        )
        for row in np.argsort(-matches, kind="stable")[: self.fine].tolist():
            other, search = others[row], prepared[row]
            if other is not None and search is not None:
                scores[row], regions[row] = self._compare(own, other, search)
        return scores, regions

    def _compare(self, own: Features, other: Features, search: Search) -> tuple[int, np.ndarray | None]:
        """Return inliers, and the region where they are enough."""
        found = match(own.descriptors, search, self.ratio)
        if len(found.query) < self.minimum:
            return 0, None
        # in pixels of the pictures that the features were found in, the unit of the threshold
        sides = [min(self.extractor.longer_side, int(f.size.max())) for f in (own, other)]
        fitted = fit_map(
            own.pixels(sides[0])[found.query],
            other.pixels(sides[1])[found.candidate],
            self.map,
            self.threshold,
            self.seed,
        )
        if fitted is None:
            return 0, None
        scales = [side / f.size.max() for side, f in zip(sides, (own, other), strict=True)]
        region = outline(fitted.matrix, own.size * scales[0], other.size * scales[1])
        if region is None:
            return 0, None
        enough = fitted.inliers >= self.minimum
        return fitted.inliers, (region / scales[1]).astype(np.float32) if enough else None

    def _features(self, images: ImageSet, row: int) -> Features | None:
        try:
            return self.store.features(images, row)
        except UnreadableImage:
            return None
