"""Siamese fine-tuning: a network draws matching images together and keeps others apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, get_args

import numpy as np
import torch

from niphash.errors import InputError
from niphash.hashing.pairs import (
    PairSampler,
    dual_margin_loss,
    median_margin,
    nonmatching_loss,
    single_margin_loss,
    squared_distances,
)
from niphash.hashing.rbm.fine_tuning import FineTuning, Objective, gather, resident
from niphash.hashing.rbm.network import Stack
from niphash.options import check_choice, check_number, check_numbers
from niphash.training.fit_data import FitData
from niphash.training.rows import Rows, SentByName

#: Two margins; one (LeCun / Hadsell); one, and no matching pairs.
PairLoss = Literal["dual", "single", "nonmatching"]

MARGIN_PAIRS = 1000  # matching pairs drawn to find the margins, and twice as many non-matching ones


@dataclass(frozen=True, kw_only=True)
class SiamesePairs(FineTuning):
    """Fine-tuning on matching and other pairs (DeepHash, section 3.3).

    Attributes:
        loss: See :data:`PairLoss`.
        loss_on: Whose activations the loss sees: of ``"all"`` layers, or of the ``"last"``; all layers learn.
        margins: Margin m of every layer in the loss (both margins of the dual loss); ``None`` finds them:
            the mean of the median matching and the median non-matching squared distance before training.
        matching_pairs: Matching pairs in a step, over all processes (rounded up to a multiple of them); twice
            as many non-matching ones come with them.
    """

    kind: ClassVar[str] = "siamese"
    needs_pairs: ClassVar[bool] = True

    loss: PairLoss = "dual"
    loss_on: Literal["all", "last"] = "all"
    margins: Sequence[float] | None = None
    matching_pairs: int = 33
    fine_tuning_rate: float = 0.03

    def check_options(self, place: str) -> None:
        """See :meth:`Phase.check_options`."""
        super().check_options(place)
        check_choice("loss", self.loss, get_args(PairLoss), group=place)
        check_choice("loss_on", self.loss_on, ("all", "last"), group=place)
        check_number("matching_pairs", self.matching_pairs, least=1, whole=True, group=place)
        if self.margins is not None:
            check_numbers("margins", self.margins, above=0, group=place)

    def check(self, sizes: Sequence[int], count: int, place: str) -> None:
        """See :meth:`Phase.check`; margins that are given must be as many as the layers of the loss."""
        layers = len(self._loss_layers(len(sizes)))
        if self.margins is not None and len(self.margins) != layers:
            raise InputError(
                f"{place}.margins={list(self.margins)} must give one margin for each of {layers} layers"
            )

    def check_pairs(self, pairs: np.ndarray | None, count: int) -> None:
        """See :meth:`Phase.check_pairs`; they must show at least two things."""
        PairSampler(pairs, count)

    def _loss_layers(self, depth: int) -> range:
        """Return the layers, of ``depth`` and counted from 0, that the loss sees."""
        return range(depth) if self.loss_on == "all" else range(depth - 1, depth)

    def objective(self, network: Stack, data: FitData, seed: int) -> Objective:
        """See :meth:`FineTuning.objective`; ``margins`` are found here where they are not given."""
        sampler = PairSampler(data.pairs, data.count)
        layers = self._loss_layers(len(network.rbms))
        descriptors = resident(data.rows)
        if self.margins is None:
            generator = np.random.default_rng([seed, MARGIN_PAIRS])
            found = median_margins(network, descriptors, *sampler.draw(MARGIN_PAIRS, generator))
            margins = [found[layer] for layer in layers]
        else:
            margins = [float(margin) for margin in self.margins]
        return Objective(
            partial(siamese_loss, margins=dict(zip(layers, margins, strict=True)), kind=self.loss),
            PairDraw(descriptors, sampler, self.matching_pairs),
            {"margins": margins},
        )


@dataclass(frozen=True)
class PairDraw(SentByName):
    """Draws the descriptors of ``matching_pairs`` pairs of ``sampler``, and of those that come with them."""

    descriptors: Rows
    sampler: PairSampler
    matching_pairs: int

    def __call__(self, generator: np.random.Generator, processes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one process's pairs, float32 [2, B, D], and whether they match, bool [B]."""
        rows, matching = self.sampler.draw(-(-self.matching_pairs // processes), generator)
        return gather(self.descriptors, rows), torch.from_numpy(matching)


def siamese_loss(
    network: Stack,
    batch: tuple[torch.Tensor, torch.Tensor],
    margins: Mapping[int, float],
    kind: PairLoss,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the pair loss summed over layers, and the mean distances of every layer.

    Args:
        network: What makes the activations.
        batch: Descriptors of the pairs, float32 [2, B, D], and whether they match, bool [B].
        margins: Margin m of each layer (counted from 0) that takes part; both margins of the dual loss.
        kind: Of the loss.
    """
    pair, matching = batch
    total = pair.new_zeros(())
    parts = {}
    for layer, distances in enumerate(layer_distances(network, pair)):
        parts[f"matching_distance_{layer + 1}"] = distances[matching].mean()
        parts[f"nonmatching_distance_{layer + 1}"] = distances[~matching].mean()
        if layer in margins:
            total = total + _pair_loss(kind, distances, matching, margins[layer])
    return total, parts


def _pair_loss(
    kind: PairLoss, distances: torch.Tensor, matching: torch.Tensor, margin: float
) -> torch.Tensor:
    if kind == "dual":
        return dual_margin_loss(distances, matching, margin, margin)
    loss = single_margin_loss if kind == "single" else nonmatching_loss
    return loss(distances, matching, margin)


def layer_distances(network: Stack, pair: torch.Tensor) -> list[torch.Tensor]:
    """Return the squared distances [B] of the activations of pairs float32 [2, B, D], one a layer."""
    return [squared_distances(*layer.chunk(2)) for layer in network(pair.flatten(0, 1)).activations]


@torch.inference_mode()
def median_margins(network: Stack, descriptors: Rows, rows: np.ndarray, matching: np.ndarray) -> list[float]:
    """Return :func:`median_margin` of every layer over pairs ``rows`` int64 [P, 2], ``matching`` bool [P]."""
    parts = [
        layer_distances(network, gather(descriptors, rows[start : start + 256]))
        for start in range(0, len(rows), 256)
    ]
    return [median_margin(torch.cat(layer), torch.from_numpy(matching)) for layer in zip(*parts, strict=True)]
