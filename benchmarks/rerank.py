"""Time of geometric re-ranking a query on one core, beside a plain loop over OpenCV: `benchmarks/rerank.py`.

Both order the same 50 candidates of the same queries of data=sample, the right one among them, by the inliers
of a MAGSAC homography; local features of the candidates lie ready, those of the query are computed. The plain
loop is what one finds in tutorials: 1000 points, a brute-force matcher, ratio 0.72, a fit for each candidate.
"""

import sys
import tempfile
import time
from collections.abc import Callable

import cv2
import numpy as np
from rich import print as show
from rich.table import Table
from threadpoolctl import threadpool_limits

from niphash.config import build, compose
from niphash.data.images import ImageSet
from niphash.data.task import RetrievalTask
from niphash.descriptors.local.sift import grey, rootsift
from niphash.search.rerank import DescribedPhotos, Geometric

QUERIES, CANDIDATES, POINTS, RATIO, THRESHOLD, SIDE = 20, 50, 1000, 0.72, 4.0, 640

#: Returns the candidate that is first.
Order = Callable[[ImageSet, ImageSet], int]


def features(images: ImageSet, row: int) -> tuple[np.ndarray, np.ndarray]:
    detector = cv2.SIFT.create(nfeatures=POINTS)
    points, descriptors = detector.detectAndCompute(grey(images.image(row), SIDE, False), None)
    if not points:
        return np.empty((0, 2), np.float32), np.empty((0, 128), np.float32)
    return np.asarray(cv2.KeyPoint.convert(points)), rootsift(descriptors)


class PlainLoop:
    """Every candidate in turn, by brute force."""

    def __init__(self, database: ImageSet) -> None:
        self.features = {name: features(database, row) for row, name in enumerate(database.ids)}
        self.matcher = cv2.BFMatcher(cv2.NORM_L2)

    def __call__(self, query: ImageSet, candidates: ImageSet) -> int:
        """Return which candidate is first."""
        points, descriptors = features(query, 0)
        return int(np.argmax([self._inliers(points, descriptors, name) for name in candidates.ids]))

    def _inliers(self, points: np.ndarray, descriptors: np.ndarray, name: str) -> int:
        others, rows = self.features[name]
        if not len(points) or len(others) < 2:
            return 0
        pairs = [a for a, b in self.matcher.knnMatch(descriptors, rows, 2) if a.distance < RATIO * b.distance]
        if len(pairs) < 4:
            return 0
        first, second = points[[p.queryIdx for p in pairs]], others[[p.trainIdx for p in pairs]]
        _, mask = cv2.findHomography(first, second, cv2.USAC_MAGSAC, THRESHOLD)
        return 0 if mask is None else int(mask.sum())


class Ours:
    """The product."""

    def __init__(self, database: ImageSet, folder: str) -> None:
        self.ranker = Geometric(folder=folder)
        self.ranker.prepare(database)

    def __call__(self, query: ImageSet, candidates: ImageSet) -> int:
        """Return which candidate is first."""
        return int(self.ranker.rerank(DescribedPhotos(query), DescribedPhotos(candidates)).order[0])


def measure(order: Order, task: RetrievalTask) -> tuple[float, float]:
    """Return milliseconds of processor time a query, and the share of queries with the right one first."""
    rng = np.random.default_rng(0)
    right, spent = 0, 0.0
    for query in rng.choice(len(task.queries), QUERIES, replace=False).tolist():
        relevant = task.relevance[query].relevant[:1]
        others = np.setdiff1d(rng.choice(len(task.database), 2 * CANDIDATES, replace=False), relevant)
        rows = rng.permutation(np.concatenate([relevant, others[: CANDIDATES - 1]])).tolist()
        images = task.queries.subset([query]), task.database.subset(rows)
        start = time.process_time()
        first = order(*images)
        spent += time.process_time() - start
        right += rows[first] == relevant[0]
    return 1000 * spent / QUERIES, right / QUERIES


def main() -> None:
    cv2.setNumThreads(1)
    data = build(compose(["data=sample"]).data)
    data.prepare()
    task = data.task()
    table = Table("", "ms a query", "right one first", title=f"{CANDIDATES} candidates, {QUERIES} queries")
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        kinds = {"plain loop": PlainLoop(task.database), "Geometric": Ours(task.database, folder)}
        found = {name: measure(order, task) for name, order in kinds.items()}
    for name, (milliseconds, share) in found.items():
        table.add_row(name, f"{milliseconds:.1f}", f"{share:.2f}")
    ratio = found["plain loop"][0] / found["Geometric"][0]
    show(table, f"the plain loop takes {ratio:.1f} times as long")
    sys.exit(0 if ratio > 1 and found["Geometric"][1] >= found["plain loop"][1] - 0.05 else 1)


if __name__ == "__main__":
    main()
