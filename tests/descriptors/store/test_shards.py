"""The files of the store: what a kill leaves, damaged and foreign ones."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import niphash
from niphash.descriptors.store.shards import FORMAT
from niphash.descriptors.store.store import DescriptorStore
from niphash.errors import InputError

DIM = 6


def store_in(root: Path) -> DescriptorStore:
    return DescriptorStore(root, "a" * 32, DIM)


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from niphash.descriptors.store.store import DescriptorStore
store = DescriptorStore(Path(sys.argv[1]), "f" * 32, 64)
rng = np.random.default_rng(0)
for _ in range(10**6):
    store.append(rng.integers(0, 256, (500, 16), np.uint8), np.ones((500, 64)))
"""


def test_a_kill_while_writing_leaves_whole_shards(tmp_path: Path):
    environment = os.environ | {"PYTHONPATH": str(Path(niphash.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=environment)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*/*.safetensors"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = DescriptorStore(tmp_path, "f" * 32, 64)
    assert len(store) >= 2500
    assert len(store) % 500 == 0
    assert (np.asarray(store.all()) == 1).all()


def shard(folder: Path) -> Path:
    (path,) = folder.glob("*/*.safetensors")
    return path


@pytest.fixture
def one_shard(tmp_path: Path) -> Path:
    store_in(tmp_path).append(np.ones((3, 16), np.uint8), np.ones((3, DIM)))
    return shard(tmp_path)


@pytest.mark.parametrize("left", [0, 4, 60, -1])
def test_a_cut_shard_is_named(one_shard: Path, left: int, tmp_path: Path):
    one_shard.write_bytes(one_shard.read_bytes()[:left])
    with pytest.raises(InputError, match=f"{one_shard.name}: a damaged shard"):
        store_in(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "changes"),
    [
        ({"format": "another", "fingerprint": "a" * 32}, {}),
        ({"format": FORMAT, "fingerprint": "b" * 32}, {}),
        (
            {"format": FORMAT, "fingerprint": "a" * 32},
            {"descriptors": np.ones((3, DIM + 1), np.float32)},
        ),
        (
            {"format": FORMAT, "fingerprint": "a" * 32},
            {"descriptors": np.ones((3, DIM), np.int32)},
        ),
        ({"format": FORMAT, "fingerprint": "a" * 32}, {"keys": np.ones((2, 16), np.uint8)}),
        ({"format": FORMAT, "fingerprint": "a" * 32}, {"blank": np.ones((), bool)}),
        ({"format": FORMAT, "fingerprint": "a" * 32}, {"more": np.ones(3)}),
    ],
)
def test_a_foreign_shard_is_named(one_shard: Path, metadata, changes, tmp_path: Path):
    tensors = {
        "keys": np.ones((3, 16), np.uint8),
        "descriptors": np.ones((3, DIM), np.float32),
        "blank": np.zeros(3, bool),
    }
    save_file(tensors | changes, one_shard, metadata)
    with pytest.raises(InputError, match=f"{one_shard.name}: not a shard"):
        store_in(tmp_path)
