import itertools
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from niphash.hashing.rbm.rbm import RBM
from niphash.hashing.rbm.regularizers import no_regularizer, rbmh
from niphash.hashing.rbm.stage import RBMStage, RBMTraining
from niphash.training.callbacks import EpochCheckpoint
from niphash.training.fit_data import FitData
from niphash.training.fitting import fit_module
from niphash.training.streams import DescriptorBatches
from niphash.training.trainer import quiet_cpu_trainer


def patterns(seed: int = 0) -> np.ndarray:
    """Three binary patterns of six units with a tenth of the units flipped, float32 [120, 6]."""
    rng = np.random.default_rng(seed)
    base = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0]])
    return (base[np.arange(120) % 3] ^ (rng.random((120, 6)) < 0.1)).astype(np.float32)


def log_likelihood(rbm: RBM, data: np.ndarray) -> float:
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)))
    with torch.no_grad():
        log_z = torch.logsumexp(-rbm.free_energy(every), 0)
        return float(-rbm.free_energy(torch.from_numpy(data)).mean() - log_z)


def trained(options: RBMTraining, epochs: int, regularizer=no_regularizer, **arguments) -> RBMStage:
    rbm = RBM(6, 4)
    rbm.initialise(0.1, torch.Generator().manual_seed(0))
    stage = RBMStage("rbm", rbm, regularizer, options, seed=1, chains=40, **arguments)
    fit_module(stage, DescriptorBatches(FitData(patterns()), 40, seed=2), None, "rbm", epochs)
    return stage


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        (RBMTraining(learning_rate=0.05), 150),
        (RBMTraining(learning_rate=0.05, cd_steps=5, mean_field=False), 150),
        (RBMTraining(learning_rate=0.02, persistent=True, mean_field=False), 400),
        (RBMTraining(learning_rate=0.02, persistent=True, mean_field=True), 400),
        (RBMTraining(learning_rate=0.05, schedule="linear", weight_decay=1e-4), 150),
    ],
    ids=["cd1", "cd5", "pcd", "pcd mean field", "linear"],
)
def test_the_exact_likelihood_rises_above_that_of_independent_units(options, epochs):
    data = patterns()
    share = data.mean(0)
    independent = float((data * np.log(share) + (1 - data) * np.log(1 - share)).sum(1).mean())
    values = [log_likelihood(trained(options, count).rbm, data) for count in (1, 20, epochs)]
    assert values[0] < values[1] < values[2]
    assert values[2] > independent + 0.3


def test_weight_decay_shrinks_weights():
    small = trained(RBMTraining(learning_rate=0.05, weight_decay=0.1), 60).rbm
    large = trained(RBMTraining(learning_rate=0.05), 60).rbm
    assert small.weight.norm() < 0.7 * large.weight.norm()


def test_rbmh_balances_the_units():
    on = []
    for weight in (0.0, 5.0):
        rbm = trained(RBMTraining(learning_rate=0.05, regularizer_weight=weight), 100, rbmh).rbm
        with torch.no_grad():
            on.append((rbm(torch.from_numpy(patterns())).mean(0) - 0.5).abs().max())
    assert on[1] < 0.5 * on[0]


def test_persistent_chains_move_on():
    options = RBMTraining(learning_rate=0.02, persistent=True)
    chains = [trained(options, epochs).chain for epochs in (1, 2)]
    assert [chain.shape for chain in chains] == [(40, 6)] * 2
    assert not torch.equal(*chains)


class KeepChains(pl.Callback):
    """Keep the checkpoint after the first epoch, and the last chains of every process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        EpochCheckpoint.every_s = 0.0  # in the process that was spawned

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and trainer.current_epoch == 1:
            shutil.copy(self.folder / "rbm.ckpt", self.folder / "after_one_epoch.ckpt")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.save(pl_module.chain, self.folder / f"chains_of_{trainer.global_rank}.pt")


def in_two_processes(folder: Path) -> tuple[RBM, list[torch.Tensor]]:
    """Return a machine trained for three epochs of PCD, and the chains of the two processes."""
    rbm = RBM(6, 4)
    rbm.initialise(0.1, torch.Generator().manual_seed(0))
    options = RBMTraining(learning_rate=0.05, persistent=True)
    stage = RBMStage("rbm", rbm, no_regularizer, options, seed=1, chains=41)
    processes = {"strategy": "ddp_spawn", "devices": 2, "callbacks": [KeepChains(folder)]}
    trainer = partial(quiet_cpu_trainer, default_root_dir=str(folder), **processes)
    fit_module(stage, DescriptorBatches(FitData(patterns()), 41, seed=2), trainer, "rbm", 3)
    return rbm, [torch.load(folder / f"chains_of_{rank}.pt") for rank in range(2)]


def test_every_process_has_chains_of_its_own_and_goes_on_with_them(tmp_path):
    for name in ("unbroken", "resumed"):
        (tmp_path / name).mkdir()
    rbm, chains = in_two_processes(tmp_path / "unbroken")
    assert [chain.shape for chain in chains] == [(20, 6)] * 2
    assert not torch.equal(*chains)
    shutil.copy(tmp_path / "unbroken" / "after_one_epoch.ckpt", tmp_path / "resumed" / "rbm.ckpt")
    resumed, same_chains = in_two_processes(tmp_path / "resumed")
    assert torch.equal(rbm.weight, resumed.weight)
    assert all(torch.equal(*both) for both in zip(chains, same_chains, strict=True))


class NoteRates(pl.Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *others: object) -> None:
        if others[-1] == 0:
            self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("schedule", "rates"), [("constant", [0.1] * 4), ("linear", [0.1, 0.075, 0.05, 0.025])]
)
def test_rate_of_an_epoch(schedule, rates, tmp_path):
    noted = NoteRates()
    rbm = RBM(6, 4)
    rbm.initialise(0.1, torch.Generator().manual_seed(0))
    stage = RBMStage("rbm", rbm, no_regularizer, RBMTraining(learning_rate=0.1, schedule=schedule), seed=1)
    trainer = partial(quiet_cpu_trainer, default_root_dir=str(tmp_path), callbacks=[noted])
    fit_module(stage, DescriptorBatches(FitData(patterns()), 40, seed=2), trainer, "rbm", 4)
    assert noted.rates == [0.1 * (1 - epoch / 4) if schedule == "linear" else 0.1 for epoch in range(4)]
    assert noted.rates == pytest.approx(rates)


def test_the_log_says_how_the_machine_does(tmp_path):
    rbm = RBM(6, 4)
    rbm.initialise(0.1, torch.Generator().manual_seed(0))
    data, held_out = torch.from_numpy(patterns()), torch.from_numpy(patterns(seed=5))
    options = RBMTraining(learning_rate=0.05)
    stage = RBMStage("layer1", rbm, no_regularizer, options, 1, fit_rows=data, held_out_rows=held_out)
    trainer = quiet_cpu_trainer(max_epochs=3)
    trainer.fit(stage, datamodule=DescriptorBatches(FitData(patterns()), 40, seed=2))
    logged = {key: float(value) for key, value in trainer.callback_metrics.items()}
    with torch.no_grad():
        q = rbm(data)
        gap = rbm.free_energy(held_out).mean() - rbm.free_energy(data).mean()
        error = (rbm.visible_mean(q) - data).square().mean()
    assert logged["layer1/mean_activation"] == pytest.approx(q.mean().item(), rel=1e-5)
    assert logged["layer1/free_energy_gap"] == pytest.approx(gap.item(), rel=1e-4)
    assert logged["layer1/reconstruction_error"] == pytest.approx(error.item(), rel=1e-5)
    counts = np.histogram(q.numpy(), bins=10, range=(0, 1))[0] / q.numel()
    assert [logged[f"layer1/activations_{i / 10:.1f}"] for i in range(10)] == pytest.approx(counts, abs=1e-6)


def test_the_global_random_state_plays_no_part():
    torch.manual_seed(1)
    first = trained(RBMTraining(learning_rate=0.05), 3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = trained(RBMTraining(learning_rate=0.05), 3)
    assert torch.equal(first.rbm.weight, second.rbm.weight)
    assert state.numel() == torch.get_rng_state().numel()
