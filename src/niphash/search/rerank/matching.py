"""Matches between the features of two photos, and the one map of the plane that explains most of them."""

from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np

#: How a query may lie in a candidate: any view of a plane, or turned, moved and scaled only.
MapName = Literal["homography", "similarity"]
MAPS: tuple[MapName, ...] = get_args(MapName)

#: Matches that a map is fitted to, at least; a homography has eight unknowns.
FEWEST = 4
#: Regions of a smaller share of the candidate, as a square's side, are collapsed maps.
_SMALLEST_SIDE = 0.03


class Search(NamedTuple):
    """Features of a candidate in the form that matching reads.

    Attributes:
        rows: float32 [T, 129], descriptors and behind them minus half their squared length.
    """

    rows: np.ndarray

    @classmethod
    def of(cls, descriptors: np.ndarray) -> "Search":
        """Prepare uint8 [T, 128] descriptors."""
        rows = np.empty((len(descriptors), descriptors.shape[1] + 1), np.float32)
        rows[:, :-1] = descriptors
        rows[:, -1] = np.einsum("td,td->t", rows[:, :-1], rows[:, :-1]) / -2
        return cls(rows)


class Matches(NamedTuple):
    """Pairs of features, the surest first; no feature of the candidate is in two.

    Attributes:
        query: int64 [M], rows of the query.
        candidate: int64 [M], rows of the candidate.
    """

    query: np.ndarray
    candidate: np.ndarray


class Map(NamedTuple):
    """A map of the query's plane into the candidate.

    Attributes:
        matrix: float64 [3, 3], of homogeneous coordinates in pixels.
        inliers: How many points of the query it takes to the points that they match.
    """

    matrix: np.ndarray
    inliers: int


def match(query: np.ndarray, candidate: Search, ratio: float) -> Matches:
    """Match descriptors whose nearest is nearer than ``ratio`` times the second (Lowe, IJCV 2004, 7.1).

    Args:
        query: uint8 [S, 128].
        candidate: Of T features.
        ratio: Of Euclidean distances, below 1.
    """
    count = len(candidate.rows)
    if not len(query) or count < 2:
        return Matches(np.empty(0, np.int64), np.empty(0, np.int64))
    rows = np.ones((len(query), query.shape[1] + 1), np.float32)
    rows[:, :-1] = query
    # whole numbers and halves below 2**23: exact in float32, in any order of the sums
    products = rows @ candidate.rows.T  # [S, T], (|q|^2 - distance^2) / 2
    lengths = np.einsum("sd,sd->s", rows[:, :-1], rows[:, :-1])
    each = np.arange(len(query))
    nearest = products.argmax(axis=1)
    first = lengths - 2 * products[each, nearest]
    products[each, nearest] = -np.inf
    second = lengths - 2 * products.max(axis=1)
    sure = np.flatnonzero(first < ratio**2 * second)
    sure = sure[np.argsort(first[sure] / second[sure], kind="stable")]
    _, kept = np.unique(nearest[sure], return_index=True)
    sure = sure[np.sort(kept)]
    return Matches(sure, nearest[sure])


def fit_map(
    query: np.ndarray, candidate: np.ndarray, kind: MapName, threshold: float, seed: int
) -> Map | None:
    """Return the map that most matches agree on, by OpenCV's USAC with the MAGSAC score; ``None`` for none.

    Barath, Noskova, Ivashechkin & Matas, *MAGSAC++*, CVPR 2020. A point that stands in several matches is
    one inlier: SIFT gives a point several descriptors where it has several orientations.

    Args:
        query: float [M, 2], points of the query in pixels, the surest match first.
        candidate: float [M, 2], the points that they match.
        kind: Of the map.
        threshold: Pixels in the candidate up to which a match agrees.
        seed: Of the draws.
    """
    if len(query) < FEWEST:
        return None
    try:
        matrix, mask = _fit(query, candidate, kind, threshold, seed)
    except cv2.error:  # of degenerate points, such as all on one line
        return None
    if matrix is None or not np.isfinite(matrix).all():
        return None
    agree = mask.reshape(-1).astype(bool)
    return Map(matrix, min(len(np.unique(points[agree], axis=0)) for points in (query, candidate)))


def outline(matrix: np.ndarray, size: np.ndarray, into: np.ndarray) -> np.ndarray | None:
    """Return where the corners of a photo go, float64 [4, 2]; ``None`` where no photo of a plane would.

    That is: a corner comes from behind the camera, the picture is mirrored, folded, or shrunk to a point.

    Args:
        matrix: float64 [3, 3], as of :class:`Map`.
        size: float [2], width and height of the query.
        into: float [2], of the candidate.
    """
    corners = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]]) * [*size, 1]
    x, y, w = matrix @ corners.T
    if not (w * matrix[2, 2] > 0).all():
        return None
    region = np.stack([x / w, y / w], 1)
    sides = np.roll(region, -1, axis=0) - region
    following = np.roll(sides, -1, axis=0)
    turns = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
    if not (turns > 0).all():
        return None
    return region if cv2.contourArea(region.astype(np.float32)) > _SMALLEST_SIDE**2 * np.prod(into) else None


def _fit(
    query: np.ndarray, candidate: np.ndarray, kind: MapName, threshold: float, seed: int
) -> tuple[np.ndarray | None, np.ndarray]:
    if kind == "similarity":
        matrix, mask = cv2.estimateAffinePartial2D(
            query, candidate, method=cv2.RANSAC, ransacReprojThreshold=threshold
        )
        return (None if matrix is None else np.vstack([matrix, [0, 0, 1]])), mask
    options = cv2.UsacParams()
    options.score, options.sampler = cv2.SCORE_METHOD_MAGSAC, cv2.SAMPLING_UNIFORM
    options.loMethod, options.final_polisher = cv2.LOCAL_OPTIM_INNER_LO, cv2.MAGSAC
    options.threshold, options.maxIterations, options.confidence = threshold, 1000, 0.99
    options.randomGeneratorState = seed
    return cv2.findHomography(query, candidate, options)
