"""How an RBM is trained: a thin LightningModule around :mod:`niphash.hashing.rbm.rbm`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch

from niphash.hashing.rbm.rbm import RBM, contrastive_divergence, reconstruction_error
from niphash.hashing.rbm.regularizers import Regularizer

HISTOGRAM_BINS = 10
CHAIN_START = 2**32 - 1  # stands in for the number of an epoch


@dataclass(frozen=True)
class RBMTraining:
    """How one RBM learns.

    Attributes:
        learning_rate: Of weights and biases.
        momentum: Of stochastic gradient descent.
        weight_decay: L2 penalty on the weights (not the biases).
        schedule: The rate stays ``"constant"`` or falls in a ``"linear"`` way to zero after the last epoch.
        cd_steps: Gibbs steps k.
        persistent: Chains go on from batch to batch (PCD) in place of starting at the data (CD).
        mean_field: Visible units of the chain take their expectation in place of a sample; not of persistent
            chains, which would no longer wander over the states of the machine.
        regularizer_weight: lambda.
    """

    learning_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear"] = "constant"
    cd_steps: int = 1
    persistent: bool = False
    mean_field: bool = True
    regularizer_weight: float = 0.0

    def rate(self, epoch: int, max_epochs: int) -> float:
        """Return the learning rate in ``epoch``, counted from 0."""
        return self.learning_rate * (1 - epoch / max_epochs if self.schedule == "linear" else 1.0)


class RBMStage(pl.LightningModule):
    """Fit one RBM by (persistent) contrastive divergence plus a penalty on its activations.

    After every epoch it logs, under ``<name>/``: the reconstruction error, the mean activation, the share
    of activations in each tenth of (0, 1), and, when held-out rows are given, the free-energy gap
    mean F(held out) - mean F(fit), which grows when the machine learns the fit set by heart (Hinton 2010,
    section 6).

    Args:
        rbm: The machine.
        regularizer: Penalty on the hidden logits.
        training: Rates and the kind of divergence.
        seed: Of all sampling; the numbers of an epoch depend on it and the epoch alone.
        chains: Number of persistent chains over all processes, as a batch is; each has an equal share.
        name: Prefix of what is logged.
        fit_rows: Some rows [M, V] of the fit set, for the log.
        held_out_rows: Rows [M', V] not fitted on, for the log.
    """

    #: This process's persistent chains [B / processes, V]. No buffer: those are made alike in all processes.
    chain: torch.Tensor | None = None
    generator: torch.Generator  # made anew every epoch
    fit_rows: torch.Tensor | None
    held_out_rows: torch.Tensor | None

    def __init__(
        self,
        rbm: RBM,
        regularizer: Regularizer,
        training: RBMTraining,
        seed: int,
        chains: int = 100,
        name: str = "rbm",
        fit_rows: torch.Tensor | None = None,
        held_out_rows: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.rbm = rbm
        self.regularizer = regularizer
        self.training_options = training
        self.seed = seed
        self.chains = chains
        self.name = name
        self.register_buffer("fit_rows", fit_rows, persistent=False)
        self.register_buffer("held_out_rows", held_out_rows, persistent=False)

    def setup(self, stage: str) -> None:
        """Begin this process's chains."""
        if self.training_options.persistent:
            count = max(self.chains // self.trainer.world_size, 1)
            half = torch.full((count, len(self.rbm.hidden_bias)), 0.5)
            self.chain = self.rbm.sample_visible(half, self._generator(CHAIN_START, "cpu")).detach()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the chains of all processes, which all take part in this: each goes on with its own."""
        if self.chain is not None:
            every: Any = self.all_gather(self.chain)  # [processes, B / processes, V], [B, V] of one process
            checkpoint["chains"] = every.reshape(self.trainer.world_size, *self.chain.shape)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up this process's chains again."""
        if self.chain is not None:
            self.chain = checkpoint["chains"][self.global_rank]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return stochastic gradient descent with momentum."""
        options = self.training_options
        groups: list[dict[str, Any]] = [
            {"params": [self.rbm.weight], "weight_decay": options.weight_decay},
            {"params": [self.rbm.hidden_bias, self.rbm.visible_bias]},
        ]
        return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum, fused=True)

    def on_train_epoch_start(self) -> None:
        """Seed the sampling and set the learning rate of this epoch, whatever ran before it."""
        self.generator = self._generator(self.current_epoch, self.device)
        if self.chain is not None:
            self.chain = self.chain.to(self.device)
        rate = self.training_options.rate(self.current_epoch, self.trainer.max_epochs or 1)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def _generator(self, part: int, device: torch.device | str) -> torch.Generator:
        """Return random numbers of this process's own for an epoch, or for :data:`CHAIN_START`."""
        mixed = np.random.SeedSequence([self.seed, part, self.global_rank])
        return torch.Generator(device).manual_seed(int(mixed.generate_state(1)[0]))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the loss on visible states [B, V]."""
        options = self.training_options
        with torch.no_grad():
            logits = self.rbm.hidden_logits(batch)  # [B, H]
            states = self._model_states(logits)
        loss, logits = contrastive_divergence(self.rbm, batch, states, logits)
        if options.regularizer_weight:
            loss = loss + options.regularizer_weight * self.regularizer(logits)
        return loss

    def _model_states(self, logits: torch.Tensor) -> torch.Tensor:
        options = self.training_options
        start = torch.sigmoid(logits) if self.chain is None else self.rbm(self.chain)
        mean_field = options.mean_field and self.chain is None
        states = self.rbm.gibbs(start, options.cd_steps, self.generator, mean_field)
        if self.chain is not None:
            self.chain = states
        return states

    def on_train_epoch_end(self) -> None:
        """Log how well the machine explains a few rows, and how its hidden units fire."""
        if self.fit_rows is not None:
            values = self.diagnostics(self.fit_rows, self.held_out_rows)
            self.log_dict({f"{self.name}/{key}": value for key, value in values.items()}, rank_zero_only=True)

    @torch.no_grad()
    def diagnostics(self, rows: torch.Tensor, held_out: torch.Tensor | None) -> Mapping[str, torch.Tensor]:
        """Return the logged values, computed on ``rows`` [M, V] and ``held_out`` [M', V]."""
        activations = self.rbm(rows)
        share = torch.histc(activations.float(), HISTOGRAM_BINS, 0.0, 1.0) / activations.numel()
        values = {
            "reconstruction_error": reconstruction_error(self.rbm, rows),
            "mean_activation": activations.mean(),
            **{f"activations_{i / HISTOGRAM_BINS:.1f}": share[i] for i in range(HISTOGRAM_BINS)},
        }
        if held_out is not None:
            values["free_energy_gap"] = (
                self.rbm.free_energy(held_out).mean() - self.rbm.free_energy(rows).mean()
            )
        return values
