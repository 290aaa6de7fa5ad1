"""Losses and samplers on triplets found without labels among neighbours in the original descriptor space.

Source: Lin, Morere et al., *Unsupervised Triplet Hashing* (DCC 2016), sections 2.2 and 2.3.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from niphash.errors import InputError
from niphash.options import check_number, check_numbers
from niphash.training.rows import Rows, blocks

QUERY_ROWS = 8192  # searched for together: the descriptors are read once for each such block
DATABASE_ROWS = 4096  # searched through together

Sampling = Literal["threshold", "uniform"]


def euclidean_distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean distances [B] of the rows of two [B, H] activations; the gradient at 0 is 0."""
    return (first - second).square().sum(1).clamp(min=1e-12).sqrt()


def softmax_ratio_loss(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Return the mean of max(0, 1 + d'+ - d'-) with (d'+, d'-) = softmax(d+, d-), a scalar (UTH, eq. 2-3).

    Args:
        positive: d+, distances [B] of the queries to their positives in code space.
        negative: d-, distances [B] to their negatives.
    """
    ratio = torch.stack([positive, negative], dim=1).softmax(dim=1)  # [B, 2]
    return (1 + ratio[:, 0] - ratio[:, 1]).clamp(min=0).mean()


def hinge_loss(positive: torch.Tensor, negative: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    """Return the mean of max(0, margin + d+ - d-) over distances [B], a scalar."""
    return (margin + positive - negative).clamp(min=0).mean()


def check_neighbours(count: int, k: int, place: str = "hashing") -> None:
    """Raise an InputError unless each of ``count`` images has ``k`` others, k at least 2.

    Here and below, ``place`` says where the option stands in the configuration, for the message.
    """
    check_number("neighbours", k, least=2, whole=True, group=place)
    if count <= k:
        raise InputError(
            f"{count} fit photos are too few for {place}.neighbours={k}; "
            f"fit on more than {k} photos or ask for fewer neighbours"
        )


def check_quantiles(quantiles: Sequence[float], place: str = "hashing") -> tuple[float, float]:
    """Return the quantiles of Tp and Tn; raise an InputError unless they are two of [0, 1] in order."""
    values = check_numbers("quantiles", quantiles, least=0, most=1, group=place)
    if len(values) != 2 or values[0] >= values[1]:
        raise InputError(f"{place}.quantiles={values}: give two from [0, 1], the smaller first")
    return float(values[0]), float(values[1])


def check_candidates(candidates: int, k: int, place: str = "hashing") -> int:
    """Return ``candidates``; raise an InputError unless lists of ``k`` hold so many on either side."""
    check_number("candidates", candidates, least=1, whole=True, group=place)
    if candidates > k // 2:
        raise InputError(f"{place}.candidates={candidates} must be at most half of {place}.neighbours={k}")
    return candidates


def nearest_neighbours(
    descriptors: Rows, k: int, queries: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the queries' k nearest other images by Euclidean distance, nearest first.

    The search is exhaustive: its time grows with Q N D, that is with N^2 D when every image is a query. In
    memory are a block of queries and one of images; neither all images nor a Q x N table ever are.

    Args:
        descriptors: float [N, D], an array or a memory map (float32 copies of its blocks go to faiss).
        k: Length of a list.
        queries: int64 [Q], rows of the images whose neighbours are asked for; ``None`` for all.

    Returns:
        float32 [Q, k] distances and int64 [Q, k] rows, the image itself left out.

    Raises:
        InputError: fewer than k other images.
    """
    check_neighbours(len(descriptors), k)
    queries = np.arange(len(descriptors)) if queries is None else queries
    distances = np.empty((len(queries), k), np.float32)
    rows = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), QUERY_ROWS):
        part = slice(start, start + QUERY_ROWS)
        squared, found = _search(np.array(descriptors[queries[part]], np.float32), descriptors, k + 1)
        keep = _all_but_one(found == queries[part, None])
        rows[part] = found[keep].reshape(-1, k)
        distances[part] = np.sqrt(np.maximum(squared[keep], 0)).reshape(-1, k)
    return distances, rows


def _search(queries: np.ndarray, descriptors: Rows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the squared distances float32 [B, k] and rows int64 [B, k] of what is nearest to [B, D]."""
    import faiss

    squared, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    start = 0
    for block in blocks(descriptors, DATABASE_ROWS):
        of_block, found = faiss.knn(queries, block, min(k, len(block)))
        squared, rows = np.hstack([squared, of_block]), np.hstack([rows, found + start])
        nearest = squared.argsort(axis=1, kind="stable")[:, :k]
        squared = np.take_along_axis(squared, nearest, axis=1)
        rows = np.take_along_axis(rows, nearest, axis=1)
        start += len(block)
    return squared, rows


def _all_but_one(own: np.ndarray) -> np.ndarray:
    """Return a mask that drops the True of each row, or the last entry where exact copies crowded it out."""
    drop = np.where(own.any(axis=1), own.argmax(axis=1), own.shape[1] - 1)
    keep = np.ones(own.shape, bool)
    keep[np.arange(len(own)), drop] = False
    return keep


class TripletSampler:
    """Draws (q, q+, q-) by rows of the fit descriptors; q+ is always nearer to q than q- is.

    With ``"threshold"`` sampling q+ and q- are those of q's neighbour list whose distances come nearest to
    two thresholds Tp < Tn, quantiles of all listed distances; a draw is made among the ``candidates``
    nearest to each. With ``"uniform"`` both are drawn from the whole list.

    Args:
        distances: float32 [Q, k] Euclidean distances of the queries' neighbours, nearest first.
        rows: int64 [Q, k], which images they are.
        sampling: ``"threshold"`` or ``"uniform"``.
        quantiles: Quantiles of all listed distances that give Tp and Tn, in (0, 1).
        candidates: How many of a list come into question on either side.
        queries: int64 [Q], which images the queries are; ``None`` when they are all, in order.

    Raises:
        InputError: quantiles out of order, or lists too short for two candidates each.
    """

    def __init__(
        self,
        distances: np.ndarray,
        rows: np.ndarray,
        sampling: Sampling = "threshold",
        quantiles: Sequence[float] = (0.05, 0.5),
        candidates: int = 1,
        queries: np.ndarray | None = None,
    ) -> None:
        check_candidates(candidates, rows.shape[1])
        self.distances, self.rows = distances, rows
        self.queries = np.arange(len(rows)) if queries is None else queries
        self.thresholds = tuple(float(t) for t in np.quantile(distances, check_quantiles(quantiles)))
        if sampling == "threshold":
            self.positives, self.negatives = threshold_candidates(distances, self.thresholds, candidates)
        else:
            self.positives = self.negatives = np.broadcast_to(np.arange(rows.shape[1]), rows.shape)

    def draw(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Return int64 [count, 3] rows of query, positive and negative."""
        lists = generator.integers(len(self.rows), size=count)
        positive = choose(self.positives, lists, generator)
        negative = choose(self.negatives, lists, generator)
        while (same := positive == negative).any():
            negative[same] = choose(self.negatives, lists[same], generator)
            positive[same] = choose(self.positives, lists[same], generator)
        nearer, farther = np.minimum(positive, negative), np.maximum(positive, negative)
        return np.stack([self.queries[lists], self.rows[lists, nearer], self.rows[lists, farther]], axis=1)


def choose(candidates: np.ndarray, lists: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return one of the ``candidates`` [Q, C] of each of the ``lists`` [B], drawn at random, [B]."""
    return candidates[lists, generator.integers(candidates.shape[1], size=len(lists))]


def threshold_candidates(
    distances: np.ndarray, thresholds: tuple[float, ...], candidates: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the list positions whose distances are nearest to Tp and to Tn, int64 [N, candidates] each.

    The two sets of a query never meet: where the thresholds lie on one side of a whole list, the positives
    are taken first and the negatives from what lies behind them.

    Args:
        distances: float32 [N, k], nearest first, k >= 2 candidates.
        thresholds: Tp and Tn.
        candidates: How many positions on either side.
    """
    k = distances.shape[1]
    start = _nearest_run(distances[:, : k - candidates], thresholds[0], candidates)
    positives = start[:, None] + np.arange(candidates)  # [N, candidates]
    behind = np.where(np.arange(k) <= positives[:, -1:], -np.inf, distances)
    start = np.maximum(_nearest_run(behind, thresholds[1], candidates), positives[:, -1] + 1)
    return positives, start[:, None] + np.arange(candidates)


def _nearest_run(distances: np.ndarray, threshold: float, length: int) -> np.ndarray:
    """Return where the run of ``length`` neighbours nearest to ``threshold`` starts, int64 [N].

    In a sorted list the nearest values lie side by side; the best run has the smallest worst miss.
    """
    ends = distances.shape[1] - length + 1
    miss = np.abs(distances - threshold)
    worst = np.maximum(miss[:, :ends], miss[:, length - 1 :])  # [N, ends]
    return worst.argmin(axis=1)
