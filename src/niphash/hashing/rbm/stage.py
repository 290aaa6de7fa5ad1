"""How an RBM is trained: a thin LightningModule around :mod:`niphash.hashing.rbm.rbm`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from niphash.hashing.rbm.phase import Schedule
from niphash.hashing.rbm.rbm import RBM, contrastive_divergence, reconstruction_error
from niphash.hashing.rbm.regularizers import Regularizer
from niphash.training.stage import Stage

HISTOGRAM_BINS = 10
CHAIN_START = 2**32 - 1  # stands in for the number of an epoch


@dataclass(frozen=True)
class RBMTraining:
    """How one RBM learns.

    Attributes:
        learning_rate: Learning rate of weights and biases.
        momentum: Momentum of stochastic gradient descent.
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
    schedule: Schedule = "constant"
    cd_steps: int = 1
    persistent: bool = False
    mean_field: bool = True
    regularizer_weight: float = 0.0


class RBMStage(Stage):
    """Fit one RBM by (persistent) contrastive divergence plus a penalty on its activations.

    After every epoch it logs, under ``<name>/``: the reconstruction error, the mean activation, the share
    of activations in each tenth of (0, 1), and, when held-out rows are given, the free-energy gap
    mean F(held out) - mean F(fit), which grows when the machine learns the fit set by heart (Hinton 2010,
    section 6). The reconstruction error is the ``loss`` that callbacks may monitor, and that of the held-out
    batches ``val_loss``: contrastive divergence itself descends on no function.

    Args:
        name: See :class:`Stage`.
        rbm: The machine.
        regularizer: Penalty on the hidden logits.
        training: Rates and the kind of divergence.
        seed: Seed of all sampling; the numbers of an epoch depend on it and the epoch alone.
        chains: Number of persistent chains over all processes, as a batch is; each has an equal share.
        fit_rows: Some rows [M, V] of the fit set, for the log.
        held_out_rows: Rows [M', V] not fitted on, for the log.
        hyperparameters: See :class:`Stage`; by default ``training``, ``seed`` and ``chains``.
    """

    #: This process's persistent chains [B / processes, V]. No buffer: those are made alike in all processes.
    chain: torch.Tensor | None = None
    generator: torch.Generator  # made anew every epoch
    fit_rows: torch.Tensor | None
    held_out_rows: torch.Tensor | None

    def __init__(
        self,
        name: str,
        rbm: RBM,
        regularizer: Regularizer,
        training: RBMTraining,
        seed: int,
        chains: int = 100,
        fit_rows: torch.Tensor | None = None,
        held_out_rows: torch.Tensor | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, hyperparameters or {**asdict(training), "seed": seed, "chains": chains})
        self.rbm = rbm
        self.regularizer = regularizer
        self.training_options = training
        self.seed = seed
        self.chains = chains
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

    def configure_optimizers(self) -> Any:
        """Return stochastic gradient descent with momentum, and the schedule of its rate."""
        options = self.training_options
        groups: list[dict[str, Any]] = [
            {"params": [self.rbm.weight], "weight_decay": options.weight_decay},
            {"params": [self.rbm.hidden_bias, self.rbm.visible_bias]},
        ]
        optimizer = torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum, fused=True)
        if options.schedule == "constant":
            return optimizer
        epochs = self.trainer.max_epochs or 1
        # in closed form: the factors of LinearLR multiply up to other last digits
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / epochs)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_train_epoch_start(self) -> None:
        """Seed the sampling of this epoch, whatever ran before it."""
        self.generator = self._generator(self.current_epoch, self.device)
        if self.chain is not None:
            self.chain = self.chain.to(self.device)

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

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log, after the last batch, how well the machine explains a few rows, and how its units fire."""
        if self.fit_rows is not None and self.trainer.is_last_batch:
            values = self.diagnostics(self.fit_rows, self.held_out_rows)
            self.log_values(values, {"loss": values["reconstruction_error"]})

    def validation_step(self, batch: torch.Tensor) -> None:
        """Log the reconstruction error of held-out visible states [B, V]."""
        error = reconstruction_error(self.rbm, batch)
        self.log_values({"val_loss": error}, {"val_loss": error}, len(batch))

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
