"""Losses and samplers on pairs of matching and non-matching images (method of the Siamese stage).

Sources: Hadsell, Chopra & LeCun, *Dimensionality Reduction by Learning an Invariant Mapping* (2006); Lin,
Morere et al., *DeepHash* (ICMR 2017), section 3.3.
"""

import hashlib

import numpy as np
import torch

from niphash.errors import InputError
from niphash.training.pairs import check_pairs, matching_groups


def squared_distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the squared L2 distances [B] of the rows of two [B, H] activations."""
    return (first - second).square().sum(1)


def single_margin_loss(distances: torch.Tensor, matching: torch.Tensor, margin: float) -> torch.Tensor:
    """Return the mean over pairs of y d + (1 - y) max(m - d, 0), a scalar (Hadsell et al., eq. 4).

    Args:
        distances: d, squared L2 distances [B].
        matching: y, bool [B].
        margin: m, the distance beyond which a non-matching pair is left alone.
    """
    return torch.where(matching, distances, (margin - distances).clamp(min=0)).mean()


def dual_margin_loss(
    distances: torch.Tensor, matching: torch.Tensor, matching_margin: float, nonmatching_margin: float
) -> torch.Tensor:
    """Return the mean over pairs of y max(d - m1, 0) + (1 - y) max(m2 - d, 0), a scalar (DeepHash, eq. 8).

    A matching pair closer than m1 is left alone, so the code does not contract without end.

    Args:
        distances: d, squared L2 distances [B].
        matching: y, bool [B].
        matching_margin: m1.
        nonmatching_margin: m2.
    """
    too_far = (distances - matching_margin).clamp(min=0)
    too_close = (nonmatching_margin - distances).clamp(min=0)
    return torch.where(matching, too_far, too_close).mean()


def nonmatching_loss(distances: torch.Tensor, matching: torch.Tensor, margin: float) -> torch.Tensor:
    """Return the mean over pairs of (1 - y) max(m - d, 0), a scalar: non-matching pairs alone.

    Args and shapes as of :func:`single_margin_loss`.
    """
    return torch.where(matching, 0, (margin - distances).clamp(min=0)).mean()


def median_margin(distances: torch.Tensor, matching: torch.Tensor) -> float:
    """Return the mean of the median matching and the median non-matching distance, both out of [B]."""
    medians = [distances[kind].median() for kind in (matching, ~matching)]
    return float(sum(medians)) / 2


class PairSampler:
    """Draws the pairs of one iteration: each matching pair gives two non-matching ones with a random image.

    Args:
        pairs: int64 [P, 2], matching images.
        count: Number of images.

    Raises:
        InputError: bad pairs, or all images show the same thing, so that no pair is non-matching.
    """

    def __init__(self, pairs: np.ndarray | None, count: int) -> None:
        self.pairs = check_pairs(pairs, count)
        self.groups = matching_groups(self.pairs, count)
        if (self.groups == self.groups[0]).all():
            raise InputError(
                "all fit photos show one thing (one class), so no pair is non-matching; "
                "give fit.pairs and fit.root with photos of at least two things"
            )

    def fingerprint(self) -> str:
        """Return 32 hexadecimal digits for the pairs and their order, both of which decide what is drawn."""
        return hashlib.blake2b(self.pairs.tobytes(), digest_size=16).hexdigest()

    def draw(self, matching: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return pairs int64 [3 M, 2] and whether they match, bool [3 M]: M = ``matching`` of them do."""
        chosen = self.pairs[generator.integers(len(self.pairs), size=matching)]  # [M, 2]
        anchors = chosen.reshape(-1)  # [2 M]
        nonmatching = np.stack([anchors, self._strangers(anchors, generator)], axis=1)
        return np.concatenate([chosen, nonmatching]), np.arange(3 * matching) < matching

    def _strangers(self, anchors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return a random image of another group for every anchor, int64 [B]."""
        drawn = generator.integers(len(self.groups), size=len(anchors))
        while (same := self.groups[drawn] == self.groups[anchors]).any():
            drawn[same] = generator.integers(len(self.groups), size=int(same.sum()))
        return drawn
