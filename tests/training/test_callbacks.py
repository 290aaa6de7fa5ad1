"""Callbacks of the user, as conf/callbacks says them: one of each a stage, working and staying."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from niphash.config import build, compose
from niphash.errors import InputError
from niphash.hashing.rbm.stack import RBMSiamese, RBMStack
from niphash.hashing.sign_layer.bihalf import BiHalf
from niphash.training.fit_data import FitData
from niphash.training.trainer import TrainerFactory, with_callbacks


def data() -> FitData:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, 32))
    rows, held_out = (
        (centres[np.arange(240) % 12] + 0.3 * rng.standard_normal((240, 32))).astype(np.float32)
        for _ in range(2)
    )
    return FitData(rows, np.stack([np.arange(228), np.arange(12, 240)], axis=1), held_out)


def stack(**changes) -> RBMStack:
    options = {"bits": 8, "layers": [16], "max_epochs": 40, "min_steps": 1, "batch_size": 40}
    return RBMStack(**{**options, **changes})


def factory(folder: Path, *overrides: str, also: tuple[pl.Callback, ...] = ()) -> TrainerFactory:
    """Return what makes trainers of one process with the callbacks of the configuration, and others."""
    cfg = compose(["trainer.precision=32-true", *overrides])
    make = with_callbacks(build(cfg.trainer), lambda: [*map(build, cfg.callbacks.values()), *also])
    return partial(make, logger=False, default_root_dir=str(folder))


class Watch(pl.Callback):
    """Notes, of every stage, the trainer's callbacks, and loss and val_loss of every epoch."""

    def __init__(self) -> None:
        self.callbacks: dict[str, list[pl.Callback]] = {}
        self.values: dict[str, list[dict[str, float]]] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.callbacks[pl_module.name] = list(trainer.callbacks)
        found = {key: float(value) for key, value in trainer.callback_metrics.items()}
        self.values.setdefault(pl_module.name, []).append(found)


STOP = (
    "callbacks=early_stopping",
    "callbacks.early_stopping.min_delta=0.02",
    "callbacks.early_stopping.patience=2",
)


@pytest.mark.parametrize("monitor", ["loss", "val_loss"])
def test_early_stopping_stops_each_layer_on_its_own(monitor, tmp_path):
    watch = Watch()
    hasher = stack()
    monitored = f"callbacks.early_stopping.monitor={monitor}"
    hasher.fit(data(), factory(tmp_path, *STOP, monitored, also=(watch,)))
    assert list(watch.values) == ["layer1", "layer2"]
    stoppers = []
    for stage, values in watch.values.items():
        losses = [value[monitor] for value in values]
        best, waited, expected = np.inf, 0, 40
        for epoch, loss in enumerate(losses, start=1):
            best, waited = (loss, 0) if loss < best - 0.02 else (best, waited + 1)
            if waited == 2:
                expected = epoch
                break
        assert len(losses) == expected < 40
        stoppers += [c for c in watch.callbacks[stage] if isinstance(c, pl.callbacks.EarlyStopping)]
    assert len({id(stopper) for stopper in stoppers}) == 2


def test_a_stage_that_was_stopped_stays_as_it_ended(tmp_path):
    first, second, watch = stack(), stack(), Watch()
    first.fit(data(), factory(tmp_path, *STOP))
    second.fit(data(), factory(tmp_path, *STOP, also=(watch,)))
    assert not watch.values
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_validation_is_of_the_held_out_rows_and_changes_nothing(tmp_path):
    given, watch, without = data(), Watch(), stack(max_epochs=3)
    hasher = stack(max_epochs=3)
    hasher.fit(given, factory(tmp_path, also=(watch,)))
    without.fit(FitData(given.rows))
    assert np.array_equal(hasher.encode(given.rows), without.encode(given.rows))
    rbm = hasher.stack.rbms[0]
    v = hasher.stack.standardise(torch.from_numpy(given.held_out))
    with torch.no_grad():
        expected = (rbm.visible_mean(rbm(v)) - v).square().mean()
    last = watch.values["layer1"][-1]
    assert last["val_loss"] == last["layer1/val_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert last["loss"] == last["layer1/reconstruction_error"] != last["val_loss"]


def test_a_sign_layer_is_validated_too(tmp_path):
    watch = Watch()
    BiHalf(8, max_epochs=2).fit(data(), factory(tmp_path, also=(watch,)))
    assert watch.values["bihalf"][-1]["val_loss"] > 0


def test_model_checkpoints_lie_in_a_folder_of_their_stage(tmp_path):
    hasher = RBMSiamese(
        8, layers=[16], max_epochs=4, min_steps=1, batch_size=40, iterations=200, learning_rate=0.01
    )
    options = ("callbacks=model_checkpoint", "callbacks.model_checkpoint.monitor=loss")
    hasher.fit(data(), factory(tmp_path, *options, "callbacks.model_checkpoint.save_top_k=2"))
    for stage in ("layer1", "layer2", "siamese"):
        files = sorted(path.name for path in (tmp_path / stage).iterdir())
        assert len(files) == 2
        assert all(re.fullmatch(r"epoch=\d-step=\d+\.ckpt", name) for name in files)
        kept = torch.load(tmp_path / stage / files[-1], weights_only=True)
        assert kept["hyper_parameters"]["sizes"] == [16, 16, 8]
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == [
        "layer1.ckpt",
        "layer2.ckpt",
        "siamese.ckpt",
    ]


def test_without_a_model_checkpoint_there_is_none(tmp_path):
    watch = Watch()
    stack(max_epochs=1).fit(data(), factory(tmp_path, also=(watch,)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layer1.ckpt", "layer2.ckpt"]
    found = [c for cs in watch.callbacks.values() for c in cs]
    assert not [c for c in found if isinstance(c, pl.callbacks.ModelCheckpoint)]


@pytest.mark.parametrize("processes", [(), ("trainer=ddp_sim",)])
@pytest.mark.parametrize("callback", ["early_stopping", "model_checkpoint"])
def test_a_metric_that_a_stage_does_not_compute_is_refused(callback, processes, tmp_path):
    options = (f"callbacks={callback}", f"callbacks.{callback}.monitor=val_loss", *processes)
    with pytest.raises(InputError) as caught:
        stack().fit(FitData(data().rows), factory(tmp_path, *options))
    sentence = str(caught.value)
    assert sentence.startswith("callbacks: monitor=val_loss is no metric of the stage layer1; choose one of ")
    assert "layer1/reconstruction_error, loss" in sentence
    assert "fit.held_out" in sentence


def test_a_stage_may_lack_the_metric_where_that_is_said(tmp_path):
    watch = Watch()
    options = (*STOP, "callbacks.early_stopping.monitor=layer1/loss", "callbacks.early_stopping.strict=false")
    hasher = stack(max_epochs=5)
    hasher.fit(FitData(data().rows), factory(tmp_path, *options, also=(watch,)))
    assert [len(values) for values in watch.values.values()] == [5, 5]


def test_early_stopping_of_two_processes_is_that_of_all(tmp_path):
    hasher = stack()
    hasher.fit(data(), factory(tmp_path, *STOP, "trainer=ddp_sim"))
    for stage in ("layer1", "layer2"):
        assert torch.load(tmp_path / f"{stage}.ckpt", weights_only=True)["global_step"] < 40 * 6
    again = stack()
    again.fit(data(), factory(tmp_path, *STOP, "trainer=ddp_sim"))
    assert torch.equal(hasher.state_dict()["layers.1.weight"], again.state_dict()["layers.1.weight"])
