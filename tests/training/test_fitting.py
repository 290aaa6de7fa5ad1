import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from niphash.errors import InputError
from niphash.hashing.rbm.stack import RBMStack
from niphash.training.callbacks import EpochCheckpoint, StageProgress
from niphash.training.fit_data import FitData
from niphash.training.rows import rows_fingerprint
from niphash.training.trainer import quiet_cpu_trainer


def descriptors() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((12, 32))[np.arange(240) % 12] + 0.3 * rng.standard_normal((240, 32))).astype(
        np.float32
    )


def stack(**changes) -> RBMStack:
    options = {"bits": 8, "layers": [16], "max_epochs": 6, "min_steps": 1, "batch_size": 40}
    return RBMStack(**{**options, **changes})


def factory(folder: Path, **options) -> partial:
    return partial(quiet_cpu_trainer, default_root_dir=str(folder), **options)


class KillAt(pl.Callback):
    """End the process like a power cut once so many epochs of a layer are done."""

    def __init__(self, layer: str, epochs: int) -> None:
        self.layer = layer
        self.epochs = epochs

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if pl_module.name == self.layer and trainer.current_epoch == self.epochs:
            os.kill(os.getpid(), signal.SIGKILL)


class CountEpochs(pl.Callback):
    def __init__(self) -> None:
        self.epochs: dict[str, int] = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs[pl_module.name] = self.epochs.get(pl_module.name, 0) + 1


@pytest.fixture(params=[{}, {"persistent": True, "schedule": "linear"}], ids=["cd", "pcd"])
def options(request) -> dict:
    return request.param


@pytest.mark.parametrize(("layer", "epochs"), [("layer1", 4), ("layer2", 3)])
def test_a_killed_run_goes_on_and_ends_with_the_same_codes(tmp_path, monkeypatch, options, layer, epochs):
    unbroken = stack(**options)
    unbroken.fit(FitData(descriptors()))
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_fitting import *
EpochCheckpoint.every_s = 0.0
trainer = factory({str(tmp_path)!r}, callbacks=[KillAt({layer!r}, {epochs})])
stack(**{options!r}).fit(FitData(descriptors()), trainer=trainer)
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    monkeypatch.setattr(EpochCheckpoint, "every_s", 0.0)
    counter = CountEpochs()
    resumed = stack(**options)
    resumed.fit(FitData(descriptors()), trainer=factory(tmp_path, callbacks=[counter]))
    expected = {"layer1": 6 - epochs, "layer2": 6} if layer == "layer1" else {"layer2": 6 - epochs}
    assert counter.epochs == expected
    for key, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    assert np.array_equal(unbroken.encode(descriptors()), resumed.encode(descriptors()))


def test_checkpoints_hold_tensors_and_plain_values_only(tmp_path):
    stack().fit(FitData(descriptors()), trainer=factory(tmp_path))
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == ["layer1.ckpt", "layer2.ckpt"]
    checkpoint = torch.load(tmp_path / "layer2.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 36
    assert checkpoint["hyper_parameters"]["learning_rate"] == 0.03


@pytest.mark.parametrize(
    "change", [{"learning_rate": 0.02}, {"layers": [24]}, {"seed": 1}, {"max_epochs": 7}]
)
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, change):
    stack().fit(FitData(descriptors()), trainer=factory(tmp_path))
    with pytest.raises(InputError, match=r"layer1\.ckpt: the checkpoint of another configuration"):
        stack(**change).fit(FitData(descriptors()), trainer=factory(tmp_path))


def test_a_checkpoint_of_other_descriptors_is_refused(tmp_path):
    stack().fit(FitData(descriptors()), trainer=factory(tmp_path))
    others = descriptors()
    others[3, 5] += 0.01
    with pytest.raises(InputError, match="other descriptors"):
        stack().fit(FitData(others), trainer=factory(tmp_path))


@pytest.mark.parametrize("options", [{"precision": "bf16-mixed"}, {"strategy": "ddp_spawn", "devices": 2}])
def test_a_checkpoint_of_another_precision_or_number_of_processes_is_refused(tmp_path, options):
    stack().fit(FitData(descriptors()), trainer=factory(tmp_path))
    with pytest.raises(InputError, match=r"layer1\.ckpt: the checkpoint of another configuration"):
        stack().fit(FitData(descriptors()), trainer=factory(tmp_path, **options))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04cos\nsystem\n"])
def test_a_damaged_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "layer1.ckpt").write_bytes(content)
    with pytest.raises(InputError, match=r"layer1\.ckpt: not a checkpoint"):
        stack().fit(FitData(descriptors()), trainer=factory(tmp_path))


def test_a_hostile_checkpoint_runs_nothing(tmp_path):
    marker = tmp_path / "marker"

    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(marker),))

    torch.save({"niphash_identity": Payload()}, tmp_path / "layer1.ckpt")
    with pytest.raises(InputError, match="not a checkpoint"):
        stack().fit(FitData(descriptors()), trainer=factory(tmp_path))
    assert not marker.exists()


def test_a_training_that_diverges_says_so_and_leaves_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(EpochCheckpoint, "every_s", 0.0)
    diverging = stack(layers=[], visible="binary", learning_rate=1e38)
    for trainer in (None, factory(tmp_path)):
        with pytest.raises(InputError, match=r"layer1: training diverged.*lower the learning rate"):
            diverging.fit(FitData(descriptors()), trainer=trainer)
    assert list(tmp_path.iterdir()) == []
    stack(layers=[], visible="binary").fit(FitData(descriptors()), trainer=factory(tmp_path))


def test_a_sentence_said_in_a_spawned_process_reaches_the_user(tmp_path):
    with pytest.raises(InputError) as caught:
        stack().fit(FitData(descriptors()[:2]), trainer=factory(tmp_path, strategy="ddp_spawn", devices=3))
    assert str(caught.value).startswith("2 fit descriptors are too few for 3 processes; ask for fewer")


def test_without_a_trainer_nothing_is_written(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    stack().fit(FitData(descriptors()))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_progress_names_the_layer_and_counts_its_steps(tmp_path, monkeypatch):
    seen: dict[str, int] = {}

    def count(items, description, total, start):
        assert start == 0
        seen[description] = 0
        for item in items:
            yield item
            seen[description] += 1
            assert seen[description] <= total == 36

    monkeypatch.setattr("niphash.training.callbacks.track", count)
    stack().fit(FitData(descriptors()), trainer=factory(tmp_path, callbacks=[StageProgress()]))
    assert list(seen) == ["train layer1", "train layer2"]
    assert set(seen.values()) == {36}


def test_fingerprint_tells_descriptors_apart():
    data = descriptors()
    assert rows_fingerprint(data) == rows_fingerprint(data.copy())
    others = [
        data[:-1],
        data.astype(np.float16),
        data + 1,
        *(data + 0.01 * one for one in np.eye(len(data))[..., None]),
    ]
    assert len({rows_fingerprint(d) for d in [data, *others]}) == 4 + len(data)
