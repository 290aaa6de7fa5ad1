"""Unsupervised triplet hashing: a network learns to rank a nearer neighbour before a farther one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, get_args

import numpy as np
import torch

from niphash.hashing.rbm.fine_tuning import FineTuning, Objective, gather, resident
from niphash.hashing.rbm.network import Stack
from niphash.hashing.rbm.triplet_sampler import (
    Sampling,
    TripletSampler,
    check_candidates,
    check_neighbours,
    check_quantiles,
    euclidean_distances,
    hinge_loss,
    nearest_neighbours,
    softmax_ratio_loss,
)
from niphash.options import check_choice, check_number
from niphash.training.fit_data import FitData
from niphash.training.rows import Rows, SentByName, sample_numbers


@dataclass(frozen=True, kw_only=True)
class NeighbourTriplets(FineTuning):
    """Fine-tuning on triplets that the neighbours of the original descriptors give (UTH, DCC 2016).

    Attributes:
        sampling: ``"threshold"`` or ``"uniform"``.
        query_limit: At most so many descriptors, drawn at random, are queries; all are neighbours.
        neighbours: Length k of a query's neighbour list.
        quantiles: Quantiles of all listed distances that give the thresholds Tp and Tn.
        candidates: How many neighbours nearest to each threshold are drawn from.
        loss: ``"softmax"`` (softmax ratio) or ``"hinge"``.
        hinge_margin: Margin of the hinge, a Euclidean distance of activations.
        triplets: Triplets in a step, over all processes (rounded up to a multiple of them).
    """

    kind: ClassVar[str] = "triplet"

    sampling: Sampling = "threshold"
    query_limit: int = 20_000
    neighbours: int = 100
    quantiles: Sequence[float] = (0.05, 0.5)
    candidates: int = 1
    loss: Literal["softmax", "hinge"] = "softmax"
    hinge_margin: float = 1.0
    triplets: int = 128
    fine_tuning_rate: float = 0.01

    def check_options(self, place: str) -> None:
        """See :meth:`Phase.check_options`."""
        super().check_options(place)
        check_choice("sampling", self.sampling, get_args(Sampling), group=place)
        check_choice("loss", self.loss, ("softmax", "hinge"), group=place)
        check_number("query_limit", self.query_limit, least=1, whole=True, group=place)
        check_number("neighbours", self.neighbours, least=2, whole=True, group=place)
        check_number("hinge_margin", self.hinge_margin, least=0, group=place)
        check_number("triplets", self.triplets, least=1, whole=True, group=place)
        check_quantiles(self.quantiles, place)
        check_candidates(self.candidates, self.neighbours, place)

    def check(self, sizes: Sequence[int], count: int, place: str) -> None:
        """See :meth:`Phase.check`: every query needs a whole neighbour list."""
        check_neighbours(count, self.neighbours, place)

    def objective(self, network: Stack, data: FitData, seed: int) -> Objective:
        """See :meth:`FineTuning.objective`."""
        descriptors = resident(data.rows)
        queries = sample_numbers(len(descriptors), self.query_limit, seed)
        lists = nearest_neighbours(descriptors, self.neighbours, queries)
        sampler = TripletSampler(*lists, self.sampling, self.quantiles, self.candidates, queries)
        loss = softmax_ratio_loss if self.loss == "softmax" else partial(hinge_loss, margin=self.hinge_margin)
        return Objective(
            partial(triplet_loss, loss=loss), TripletDraw(descriptors, sampler, self.triplets), {}
        )


@dataclass(frozen=True)
class TripletDraw(SentByName):
    """Draws the descriptors of ``triplets`` triplets of ``sampler``."""

    descriptors: Rows
    sampler: TripletSampler
    triplets: int

    def __call__(self, generator: np.random.Generator, processes: int) -> torch.Tensor:
        """Return one process's triplets, float32 [3, B, D]."""
        return gather(self.descriptors, self.sampler.draw(-(-self.triplets // processes), generator))


def triplet_loss(
    network: Stack, triplet: torch.Tensor, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return ``loss`` of the Euclidean distances of top activations, and the share of triplets out of order.

    Args:
        network: What makes the activations.
        triplet: Descriptors of queries, positives and negatives, float32 [3, B, D].
        loss: Scalar loss of d+ [B] and d- [B].
    """
    query, near, far = network(triplet.flatten(0, 1)).activations[-1].chunk(3)  # [B, bits] each
    positive, negative = euclidean_distances(query, near), euclidean_distances(query, far)
    return loss(positive, negative), {"out_of_order": (positive >= negative).float().mean()}
