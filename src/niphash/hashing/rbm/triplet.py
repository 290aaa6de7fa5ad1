"""Unsupervised triplet hashing: a stack learns to rank a nearer neighbour before a farther one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch

from niphash.hashing.checks import check_choice, check_number
from niphash.hashing.rbm.fine_tuning import (
    Descent,
    Snapshot,
    check_snapshots,
    fine_tune,
    gather,
    resident,
)
from niphash.hashing.rbm.network import Stack
from niphash.hashing.rbm.rbm import RBM
from niphash.hashing.rbm.stack import RBMStack
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
from niphash.training.fitting import data_fingerprint
from niphash.training.rows import fit_moments, sample_numbers
from niphash.training.streams import SentByName
from niphash.training.trainer import TrainerFactory


class RBMTriplet(RBMStack):
    """An RBM stack fine-tuned on triplets that the original descriptors give (UTH, DCC 2016).

    Args:
        bits: Length of a code.
        seed: Seed of everything random.
        start: ``"rbm"``: phase 1 trains the stack; ``"random"``: Glorot's random weights take its place.
        sampling: ``"threshold"`` or ``"uniform"``.
        query_limit: At most so many descriptors, drawn at random, are queries; all are neighbours.
        neighbours: Length k of a query's neighbour list.
        quantiles: Quantiles of all listed distances that give the thresholds Tp and Tn.
        candidates: How many neighbours nearest to each threshold are drawn from.
        loss: ``"softmax"`` (softmax ratio) or ``"hinge"``.
        hinge_margin: Margin of the hinge, a Euclidean distance of activations.
        iterations: Steps of fine-tuning, rounded up to whole hundreds.
        triplets: Triplets in a step, over all processes (rounded up to a multiple of them).
        fine_tuning_rate: Learning rate of this phase.
        fine_tuning_momentum: Momentum of this phase.
        snapshot: Called with the iteration and the stack before fine-tuning and every hundred iterations; for
            trainers of one process only.
        stack_options: See :class:`RBMStack`.
    """

    def __init__(
        self,
        bits: int,
        seed: int = 0,
        *,
        start: Literal["rbm", "random"] = "rbm",
        sampling: Sampling = "threshold",
        query_limit: int = 20_000,
        neighbours: int = 100,
        quantiles: Sequence[float] = (0.05, 0.5),
        candidates: int = 1,
        loss: Literal["softmax", "hinge"] = "softmax",
        hinge_margin: float = 1.0,
        iterations: int = 1000,
        triplets: int = 128,
        fine_tuning_rate: float = 0.01,
        fine_tuning_momentum: float = 0.9,
        snapshot: Snapshot | None = None,
        **stack_options: Any,
    ) -> None:
        super().__init__(bits, seed, **stack_options)
        self.start = check_choice("start", start, ("rbm", "random"))
        self.sampling: Sampling = check_choice("sampling", sampling, get_args(Sampling))
        self.query_limit = check_number("query_limit", query_limit, least=1, whole=True)
        self.neighbours = check_number("neighbours", neighbours, least=2, whole=True)
        self.quantiles = check_quantiles(quantiles)
        self.candidates = check_candidates(candidates, neighbours)
        self.loss = check_choice("loss", loss, ("softmax", "hinge"))
        self.hinge_margin = check_number("hinge_margin", hinge_margin, least=0)
        self.triplets = check_number("triplets", triplets, least=1, whole=True)
        self.descent = Descent(iterations, fine_tuning_rate, fine_tuning_momentum)
        self.snapshot = snapshot

    def check(self, dim: int, count: int) -> None:
        """See :meth:`Hasher.check`: every query needs a whole neighbour list."""
        super().check(dim, count)
        check_neighbours(count, self.neighbours)

    def fit(
        self,
        descriptors: np.ndarray,
        pairs: np.ndarray | None = None,
        trainer: TrainerFactory | None = None,
        validation: np.ndarray | None = None,
    ) -> None:
        """See :meth:`Hasher.fit`; ``pairs`` are not used."""
        check_snapshots(self.snapshot, trainer)
        if self.start == "rbm":
            super().fit(descriptors, trainer=trainer, validation=validation)
        else:
            self.stack = self._random_stack(descriptors)
        self.fine_tune(descriptors, trainer)

    def _random_stack(self, descriptors: np.ndarray) -> Stack:
        """Return a standardising stack with Glorot's random weights."""
        count, dim = descriptors.shape
        self.check(dim, count)
        stack = Stack([dim, *self.hidden_sizes(dim, count)], self.visible)
        mean, scale = fit_moments(descriptors)
        stack.mean, stack.scale = torch.from_numpy(mean), torch.from_numpy(scale)
        generator = torch.Generator().manual_seed(self.seed)
        for layer in stack.modules():
            if isinstance(layer, RBM):
                layer.initialise(math.sqrt(2 / sum(layer.weight.shape)), generator)
        return stack.requires_grad_(False).eval()

    def fine_tune(self, descriptors: np.ndarray, trainer: TrainerFactory | None = None) -> None:
        """Go on from a stack with triplets of ``descriptors`` [N, D]."""
        stack = self._fitted()
        identity = {**self._identity(), **self._options(), "data": data_fingerprint(descriptors)}
        descriptors = resident(descriptors)
        queries = sample_numbers(len(descriptors), self.query_limit, self.seed)
        lists = nearest_neighbours(descriptors, self.neighbours, queries)
        sampler = TripletSampler(*lists, self.sampling, self.quantiles, self.candidates, queries)

        loss = softmax_ratio_loss if self.loss == "softmax" else partial(hinge_loss, margin=self.hinge_margin)
        fine_tune(
            stack,
            partial(triplet_loss, loss=loss),
            TripletDraw(descriptors, sampler, self.triplets),
            self.descent,
            name="triplet",
            seed=self.seed,
            trainer=trainer,
            identity=identity,
            snapshot=self.snapshot,
        )
        if self.recenter_on != "off":
            self.recenter(descriptors)

    def _options(self) -> dict[str, Any]:
        return {**{key: getattr(self, key) for key in _OPTIONS}, "quantiles": list(self.quantiles)}


_OPTIONS = (
    "start",
    "sampling",
    "query_limit",
    "neighbours",
    "candidates",
    "loss",
    "hinge_margin",
    "triplets",
)


@dataclass(frozen=True)
class TripletDraw(SentByName):
    """Draws the descriptors of ``triplets`` triplets of ``sampler``."""

    descriptors: np.ndarray
    sampler: TripletSampler
    triplets: int

    def __call__(self, generator: np.random.Generator, processes: int) -> torch.Tensor:
        """Return one process's triplets, float32 [3, B, D]."""
        return gather(self.descriptors, self.sampler.draw(-(-self.triplets // processes), generator))


def triplet_loss(
    stack: Stack, triplet: torch.Tensor, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return ``loss`` of the Euclidean distances of top activations, and the share of triplets out of order.

    Args:
        stack: What makes the activations.
        triplet: Descriptors of queries, positives and negatives, float32 [3, B, D].
        loss: Of d+ [B] and d- [B].
    """
    query, near, far = stack(triplet.flatten(0, 1)).activations[-1].chunk(3)  # [B, bits] each
    positive, negative = euclidean_distances(query, near), euclidean_distances(query, far)
    return loss(positive, negative), {"out_of_order": (positive >= negative).float().mean()}
