"""SIGKILL while a collection is added to: nothing torn, nothing wrong, and the end as if never killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("kills", "seed"), [(12, 0), pytest.param(100, 1, marks=pytest.mark.slow, id="100-1")]
)
def test_kills_leave_whole_photos_and_the_same_end(kills: int, seed: int, tmp_path: Path):
    command = [sys.executable, "-m", "tests.collection.kills", str(tmp_path), str(kills), str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=550, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["kills"] == kills
    assert seen["rounds"] > 1
    assert (seen["torn"], seen["wrong"], seen["unlike"]) == (0, 0, 0), seen
