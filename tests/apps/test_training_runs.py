"""Training as a user starts it: several processes, curves, interruption, resuming."""

import csv
from pathlib import Path

from tests.apps.test_programs import SMALL, run

RBM = (*SMALL[:3], "hashing=rbm", "bits=16", "hashing.batch_size=12", "hashing.min_steps=1")


def curves(run_dir: Path) -> list[dict[str, str]]:
    """Return the lines of metrics.csv."""
    with (run_dir / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def logged(run_dir: Path, column: str) -> list[str]:
    return [line[column] for line in curves(run_dir) if line[column]]


def test_two_processes_log_their_curves_and_a_refused_run_keeps_them(object_folder: Path, tmp_path: Path):
    command = ("train.py", "data=folder", f"data.root={object_folder}", *RBM, "hydra.run.dir=run")
    run(*command, "trainer=ddp_sim", "hashing.max_epochs=2", cwd=tmp_path)
    assert len(logged(tmp_path / "run", "layer1/reconstruction_error")) == 2
    assert len(logged(tmp_path / "run", "folder/code/mAP")) == 1
    before = curves(tmp_path / "run")
    run(*command, "seed=1", cwd=tmp_path, expect=2)
    assert curves(tmp_path / "run") == before
