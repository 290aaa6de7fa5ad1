"""Runs that are ended, and files that were changed: the short part of ``benchmarks/faults.py``."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from niphash.errors import InputError
from niphash.training.callbacks import spawned_errors
from niphash.training.fitting import _read_checkpoint
from tests.apps.test_programs import ROOT, SMALL

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}


def faults(*options: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / "faults.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def test_a_dozen_kills_lose_nothing():
    jobs = ("describe", "rbm_stack", "index")
    assert "losses 0, seed 3" in faults("--kills", "12", "--mutations", "0", "--seed", "3", "--only", *jobs)


def test_some_hundred_changed_files_are_named_or_read_right():
    found = faults("--kills", "0", "--mutations", "400", "--seed", "3")
    assert "mutations 400, finds 0, silent wrong results 0, seed 3" in found


def test_a_checkpoint_whose_numbers_were_changed_is_refused(tmp_path: Path):
    path = tmp_path / "layer.ckpt"
    torch.save(
        {"niphash_identity": "{}", "niphash_finished": True, "state_dict": {"w": torch.ones(64)}}, path
    )
    _read_checkpoint(path, "{}")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as zipped:
        (stored,) = (info for info in zipped.infolist() if info.filename.endswith("data/0"))
    content[content.index(torch.ones(64).numpy().tobytes()) + stored.file_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a checkpoint that can be read"):
        _read_checkpoint(path, "{}")


def children(process: int) -> set[int]:
    """Return the processes that ``process`` started, and those that they started."""
    listed = Path(f"/proc/{process}/task/{process}/children")
    own = {int(one) for one in listed.read_text().split()} if listed.exists() else set()
    return own.union(*(children(one) for one in own))


def test_a_kill_of_a_run_ends_its_processes(object_folder: Path, tmp_path: Path):
    long = ("hashing=rbm", "hashing.max_epochs=100000", "hashing.batch_size=12", "trainer=ddp_sim")
    words = ["data=folder", f"data.root={object_folder}", *SMALL[:3], "bits=16", *long, "hydra.run.dir=run"]
    environment = ENVIRONMENT | {"NIPHASH_DATA": str(tmp_path / "data")}
    started = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    curve = tmp_path / "run" / "csv" / "metrics.csv"
    while not (curve.is_file() and "layer1" in curve.read_text()):
        assert started.poll() is None
        time.sleep(0.05)
    left = children(started.pid)
    assert len(left) >= 2
    started.send_signal(signal.SIGKILL)
    started.wait()
    deadline = time.monotonic() + 60
    while left and time.monotonic() < deadline:
        left = {one for one in left if Path(f"/proc/{one}").exists() and not is_zombie(one)}
        time.sleep(0.05)
    assert not left


def is_zombie(process: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return True


def _refuse(rank: int) -> None:
    if rank == 1:
        raise InputError("a.jpg: cannot be used; give another")
    time.sleep(600)


def _die(rank: int) -> None:
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


@pytest.mark.parametrize(
    ("work", "sentence"),
    [(_refuse, "a.jpg: cannot be used; give another"), (_die, r"process 1 of this run was ended \(SIGKILL")],
)
def test_what_ends_one_process_ends_the_run_with_its_sentence(work, sentence: str):
    with pytest.raises(InputError, match=sentence), spawned_errors():
        torch.multiprocessing.spawn(work, nprocs=2)
