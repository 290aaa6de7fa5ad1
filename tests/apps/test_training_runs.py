"""Training as a user starts it: several processes, curves, interruption, resuming."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import niphash
from tests.apps.test_programs import ROOT, SMALL, run

RBM = (*SMALL[:3], "bits=16", "hashing.batch_size=12", "hashing.min_steps=1")


def curves(run_dir: Path) -> list[dict[str, str]]:
    """Return the lines of metrics.csv."""
    with (run_dir / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def logged(run_dir: Path, column: str) -> list[str]:
    return [line[column] for line in curves(run_dir) if line[column]]


def test_two_processes_log_their_curves_and_a_refused_run_keeps_them(object_folder: Path, tmp_path: Path):
    command = (
        "train.py",
        "data=folder",
        f"data.root={object_folder}",
        *RBM,
        "hashing=rbm",
        "hydra.run.dir=run",
    )
    done = run(*command, "trainer=ddp_sim", "hashing.max_epochs=2", cwd=tmp_path)
    assert not re.search("lightning|tip:|available:", done.stdout + done.stderr, re.IGNORECASE)
    assert len(logged(tmp_path / "run", "layer1/reconstruction_error")) == 2
    assert len(logged(tmp_path / "run", "folder/code/mAP")) == 1
    before = curves(tmp_path / "run")
    run(*command, "seed=1", cwd=tmp_path, expect=2)
    assert curves(tmp_path / "run") == before


@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_says_how_to_go_on_and_does(object_folder: Path, tmp_path: Path, sent: int):
    two_layers = ("hashing=rbm_stack", "hashing.layers=[24]", "hashing.max_epochs=200")
    command = ("train.py", "data=folder", f"data.root={object_folder}", *RBM, *two_layers)
    run(*command, "hydra.run.dir=unbroken", cwd=tmp_path)
    environment = {
        **os.environ,
        "NIPHASH_DATA": str(tmp_path / "niphash_data"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    flag = tmp_path / "in the second layer"
    pause = f"+callbacks.pause={{_target_: tests.pausing.Pause, flag: '{flag}', stage: layer2, epoch: 20}}"
    words = [sys.executable, str(ROOT / command[0]), *command[1:], pause, "hydra.run.dir=resumed"]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(
            signal.signal, signal.SIGINT, signal.SIG_DFL
        ),  # which a shell's background ignores
    ) as started:
        while started.poll() is None and not flag.exists():
            time.sleep(0.01)
        started.send_signal(sent)
        _, errors = started.communicate(timeout=120)
    assert started.returncode == 130, errors
    assert errors.strip().splitlines()[-1].startswith("interrupted: what was described and trained is kept; ")
    assert "Traceback" not in errors
    assert not (tmp_path / "resumed" / "model").exists()
    run(*command, "hydra.run.dir=resumed", cwd=tmp_path)
    first, second = (tmp_path / name / "model" / "hasher.safetensors" for name in ("unbroken", "resumed"))
    assert first.read_bytes() == second.read_bytes()
    assert len(logged(tmp_path / "resumed", "layer1/reconstruction_error")) == 200
    assert len(logged(tmp_path / "resumed", "layer2/reconstruction_error")) > 200


def test_held_out_photos_give_the_free_energy_gap(object_folder: Path, tmp_path: Path):
    pairs = ("hashing=rbm_siamese", "hashing.layers=[]", "hashing.iterations=1", "fit.held_out=0.25")
    data = ("data=folder", f"data.root={object_folder}", "hydra.run.dir=run")
    run("train.py", *data, *RBM, *pairs, "hashing.max_epochs=3", cwd=tmp_path)
    gaps = logged(tmp_path / "run", "layer1/free_energy_gap")
    assert len(gaps) == 3
    assert all(float(gap) != 0 for gap in gaps)


def test_processes_that_torchrun_starts_write_and_print_once(object_folder: Path, tmp_path: Path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    overrides = ["data=folder", f"data.root={object_folder}", *RBM, "hashing=rbm", "hashing.max_epochs=2"]
    processes = ["trainer=cpu", "+trainer.strategy=ddp", "trainer.devices=2", "hydra.run.dir=run"]
    environment = {**os.environ, "NIPHASH_DATA": str(tmp_path / "niphash_data"), "OMP_NUM_THREADS": "1"}
    words = [*command, str(ROOT / "train.py"), *overrides, *processes]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written to") == 1
    assert len(logged(tmp_path / "run", "layer1/reconstruction_error")) == 2
    assert len(logged(tmp_path / "run", "folder/code/mAP")) == 1
    assert (tmp_path / "run" / "model" / "hasher.safetensors").is_file()


PHASES = (
    "hashing=rbm_triplet_siamese",
    "hashing.layers=[24]",
    "hashing.phases.0.max_epochs=60",
    "hashing.phases.0.min_steps=1",
    "hashing.phases.0.batch_size=12",
    "hashing.phases.1.iterations=200",
    "hashing.phases.1.neighbours=10",
    "hashing.phases.2.iterations=100",
)


def test_a_list_of_phases_trains_under_callbacks_of_the_user_and_its_model_loads(
    object_folder: Path, tmp_path: Path
):
    stop = ("callbacks=early_stopping", "callbacks.early_stopping.min_delta=0.01", "hydra.run.dir=run")
    kept = (
        "+callbacks.kept._target_=pytorch_lightning.callbacks.ModelCheckpoint",
        "+callbacks.kept.monitor=loss",
    )
    data = ("data=folder", f"data.root={object_folder}", *SMALL[:3], "bits=16")
    run("train.py", *data, *PHASES, *stop, *kept, cwd=tmp_path)
    checkpoints = tmp_path / "run" / "checkpoints"
    stages = ("layer1", "layer2", "siamese", "triplet")
    assert sorted(path.stem for path in checkpoints.glob("*.ckpt")) == list(stages)
    for stage in stages:
        assert len(list((checkpoints / stage).glob("*.ckpt"))) == 1
    for stage in ("layer1", "layer2"):
        assert 1 < len(logged(tmp_path / "run", f"{stage}/reconstruction_error")) < 60
    model = niphash.load(tmp_path / "run")
    assert [type(phase).__name__ for phase in model.hasher.phases] == [
        "RBMLayers",
        "NeighbourTriplets",
        "SiamesePairs",
    ]
    measured = json.loads((tmp_path / "run" / "metrics.json").read_text())["code"]
    again = ("model=run/model", *data[:2], "hydra.run.dir=again")
    run("evaluate.py", *again, cwd=tmp_path)
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["code"] == measured


def test_a_trainer_option_of_a_stage_is_refused_in_one_sentence(object_folder: Path, tmp_path: Path):
    done = run(
        "train.py",
        "data=folder",
        f"data.root={object_folder}",
        "+trainer.max_epochs=3",
        cwd=tmp_path,
        expect=2,
    )
    options = "hashing.max_epochs, hashing.iterations, classifier.epochs or contrastive.epochs"
    assert f"trainer.max_epochs=3: set {options}" in done.stderr
    assert "Traceback" not in done.stderr
