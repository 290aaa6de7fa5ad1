"""Siamese fine-tuning: a trained stack draws matching images together and keeps others apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from niphash.errors import InputError
from niphash.hashing.checks import check_choice, check_number, check_numbers
from niphash.hashing.pairs import (
    PairSampler,
    dual_margin_loss,
    median_margin,
    single_margin_loss,
    squared_distances,
)
from niphash.hashing.rbm.fine_tuning import (
    Descent,
    Snapshot,
    check_snapshots,
    fine_tune,
    gather,
    resident,
)
from niphash.hashing.rbm.network import Stack
from niphash.hashing.rbm.stack import RBMStack
from niphash.training.fitting import data_fingerprint
from niphash.training.streams import SentByName
from niphash.training.trainer import TrainerFactory

MARGIN_PAIRS = 1000  # matching pairs drawn to find the margins, and twice as many non-matching ones


class RBMSiamese(RBMStack):
    """An RBM stack, trained without labels, then fine-tuned on pairs (DeepHash, section 3.3).

    Args:
        bits: Length of a code.
        seed: Seed of everything random.
        loss: ``"dual"`` (two margins) or ``"single"`` (LeCun / Hadsell).
        loss_on: Whose activations the loss sees: of ``"all"`` layers, or of the ``"last"``; all layers learn.
        margins: Margin m of every layer in the loss (both margins of the dual loss); ``None`` finds them:
            the mean of the median matching and the median non-matching squared distance before training.
        iterations: Steps of fine-tuning, rounded up to whole hundreds.
        matching_pairs: Matching pairs in a step, over all processes (rounded up to a multiple of them); twice
            as many non-matching ones come with them.
        fine_tuning_rate: Learning rate of this phase.
        fine_tuning_momentum: Momentum of this phase.
        snapshot: Called with the iteration and the stack before fine-tuning and every hundred iterations; for
            trainers of one process only.
        stack_options: See :class:`RBMStack`.
    """

    needs_pairs = True

    def __init__(
        self,
        bits: int,
        seed: int = 0,
        *,
        loss: Literal["dual", "single"] = "dual",
        loss_on: Literal["all", "last"] = "all",
        margins: Sequence[float] | None = None,
        iterations: int = 1000,
        matching_pairs: int = 33,
        fine_tuning_rate: float = 0.03,
        fine_tuning_momentum: float = 0.9,
        snapshot: Snapshot | None = None,
        **stack_options: Any,
    ) -> None:
        super().__init__(bits, seed, **stack_options)
        self.loss = check_choice("loss", loss, ("dual", "single"))
        self.loss_on = check_choice("loss_on", loss_on, ("all", "last"))
        self.margins = (
            None if margins is None else [float(m) for m in check_numbers("margins", margins, above=0)]
        )
        self.matching_pairs = check_number("matching_pairs", matching_pairs, least=1, whole=True)
        self.descent = Descent(iterations, fine_tuning_rate, fine_tuning_momentum)
        self.snapshot = snapshot
        #: Margins in use, one a layer that the loss sees; empty before the fit.
        self.found_margins: list[float] = []

    def check(self, dim: int, count: int) -> None:
        """See :meth:`Hasher.check`; margins that are given must be as many as the layers of the loss."""
        super().check(dim, count)
        self._check_margins(len(self.hidden_sizes(dim, count)))

    def check_pairs(self, pairs: np.ndarray | None, count: int) -> None:
        """See :meth:`Hasher.check_pairs`; they must show at least two things."""
        PairSampler(pairs, count)

    def _check_margins(self, depth: int) -> None:
        """Refuse given margins that are not one for each layer, of ``depth``, that the loss sees."""
        layers = len(self._loss_layers(depth))
        if self.margins is not None and len(self.margins) != layers:
            raise InputError(
                f"hashing.margins={self.margins} must give one margin for each of {layers} layers"
            )

    def _loss_layers(self, depth: int) -> range:
        """Return the layers, of ``depth`` and counted from 0, that the loss sees."""
        return range(depth) if self.loss_on == "all" else range(depth - 1, depth)

    def fit(
        self,
        descriptors: np.ndarray,
        pairs: np.ndarray | None = None,
        trainer: TrainerFactory | None = None,
        validation: np.ndarray | None = None,
    ) -> None:
        """See :meth:`Hasher.fit`; ``pairs`` are needed."""
        check_snapshots(self.snapshot, trainer)
        sampler = PairSampler(pairs, len(descriptors))
        super().fit(descriptors, trainer=trainer, validation=validation)
        self.fine_tune(descriptors, sampler, trainer)

    def fine_tune(
        self, descriptors: np.ndarray, sampler: PairSampler, trainer: TrainerFactory | None = None
    ) -> None:
        """Go on from a trained stack with the pairs of ``sampler`` over ``descriptors`` [N, D]."""
        stack = self._fitted()
        self._check_margins(len(stack.layers))
        layers = self._loss_layers(len(stack.layers))
        identity = {**self._identity(), **self._options(), "data": data_fingerprint(descriptors)}
        identity["pairs"] = sampler.fingerprint()
        descriptors = resident(descriptors)
        margins = self.margins
        if margins is None:
            generator = np.random.default_rng([self.seed, MARGIN_PAIRS])
            found = median_margins(stack, descriptors, *sampler.draw(MARGIN_PAIRS, generator))
            margins = [found[layer] for layer in layers]
        self.found_margins = margins

        fine_tune(
            stack,
            partial(siamese_loss, margins=dict(zip(layers, margins, strict=True)), kind=self.loss),
            PairDraw(descriptors, sampler, self.matching_pairs),
            self.descent,
            name="siamese",
            seed=self.seed,
            trainer=trainer,
            identity={**identity, "margins": margins},
            snapshot=self.snapshot,
        )
        if self.recenter_on != "off":
            self.recenter(descriptors)

    def _options(self) -> dict[str, Any]:
        return {"loss": self.loss, "loss_on": self.loss_on, "matching_pairs": self.matching_pairs}

    def log_config(self) -> dict[str, Any]:
        """Return the layer sizes and the margins in use."""
        return {**super().log_config(), "margins": self.found_margins}


@dataclass(frozen=True)
class PairDraw(SentByName):
    """Draws the descriptors of ``matching_pairs`` pairs of ``sampler``, and of those that come with them."""

    descriptors: np.ndarray
    sampler: PairSampler
    matching_pairs: int

    def __call__(self, generator: np.random.Generator, processes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one process's pairs, float32 [2, B, D], and whether they match, bool [B]."""
        rows, matching = self.sampler.draw(-(-self.matching_pairs // processes), generator)
        return gather(self.descriptors, rows), torch.from_numpy(matching)


def siamese_loss(
    stack: Stack,
    batch: tuple[torch.Tensor, torch.Tensor],
    margins: Mapping[int, float],
    kind: str,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the pair loss summed over layers, and the mean distances of every layer.

    Args:
        stack: What makes the activations.
        batch: Descriptors of the pairs, float32 [2, B, D], and whether they match, bool [B].
        margins: Margin m of each layer (counted from 0) that takes part; both margins of the dual loss.
        kind: ``"dual"`` or ``"single"``.
    """
    pair, matching = batch
    total = pair.new_zeros(())
    parts = {}
    for layer, distances in enumerate(layer_distances(stack, pair)):
        parts[f"matching_distance_{layer + 1}"] = distances[matching].mean()
        parts[f"nonmatching_distance_{layer + 1}"] = distances[~matching].mean()
        if layer in margins and kind == "dual":
            total = total + dual_margin_loss(distances, matching, margins[layer], margins[layer])
        elif layer in margins:
            total = total + single_margin_loss(distances, matching, margins[layer])
    return total, parts


def layer_distances(stack: Stack, pair: torch.Tensor) -> list[torch.Tensor]:
    """Return the squared distances [B] of the activations of pairs float32 [2, B, D], one a layer."""
    return [squared_distances(*layer.chunk(2)) for layer in stack(pair.flatten(0, 1)).activations]


@torch.inference_mode()
def median_margins(
    stack: Stack, descriptors: np.ndarray, rows: np.ndarray, matching: np.ndarray
) -> list[float]:
    """Return :func:`median_margin` of every layer over pairs ``rows`` int64 [P, 2], ``matching`` bool [P]."""
    parts = [
        layer_distances(stack, gather(descriptors, rows[start : start + 256]))
        for start in range(0, len(rows), 256)
    ]
    return [median_margin(torch.cat(layer), torch.from_numpy(matching)) for layer in zip(*parts, strict=True)]
