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
from niphash.descriptors.store.shards import FORMATS
from niphash.descriptors.store.store import DescriptorStore

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
    while process.poll() is None and len(list(tmp_path.glob("*/*.safetensors"))) < 5:
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


def given_up(folder: Path, logged: pytest.LogCaptureFixture) -> str:
    """Return what is logged of the one shard in ``folder``, which is not used, and described anew."""
    store = store_in(folder)
    keys = np.ones((3, 16), np.uint8)
    assert (store.find(keys) == -1).all()
    store.append(keys, np.full((3, DIM), 2))
    assert (np.asarray(store.all()) == 2).all()
    (message,) = logged.messages
    again = store_in(folder)
    assert (again.find(keys) >= 0).all()
    assert logged.messages == [message]  # once, not in every run
    return message


@pytest.mark.parametrize("left", [0, 4, 60, -1])
def test_a_cut_shard_is_named_and_described_again(one_shard: Path, left: int, tmp_path: Path, caplog):
    one_shard.write_bytes(one_shard.read_bytes()[:left])
    assert f"{one_shard.name}: a damaged shard" in given_up(tmp_path, caplog)
    assert one_shard.with_suffix(".damaged").is_file()


def test_every_changed_byte_is_noticed(one_shard: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    whole = one_shard.read_bytes()
    keys = np.ones((3, 16), np.uint8)
    for place in range(8, len(whole)):
        one_shard.write_bytes(whole[:place] + bytes([whole[place] ^ 0x01]) + whole[place + 1 :])
        store = store_in(tmp_path)
        found = store.find(keys)
        if (found >= 0).any():  # a change that changes nothing: a space of the header
            assert (store.read(found) == 1).all()
        else:
            one_shard.with_suffix(".damaged").unlink()
    assert len(caplog.messages) > len(whole) * 0.9


def test_what_is_whole_goes_on_being_used(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    store = store_in(tmp_path)
    keys = np.repeat(np.arange(4, dtype=np.uint8), 16).reshape(4, 16)
    for row in range(4):
        store.append(keys[[row, 0]], np.full((2, DIM), row))  # photo 0 is in every shard
    first, second, *_ = sorted(tmp_path.glob("*/*.safetensors"))
    for path in (first, second):
        content = path.read_bytes()
        at = content.index(np.full(DIM, 0 if path == first else 1, np.float32).tobytes(), 300)
        path.write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    again = store_in(tmp_path)
    found = again.find(keys)
    assert (found >= 0).tolist() == [True, False, True, True]
    assert again.read(found[[0, 2, 3]])[:, 0].tolist() == [2, 2, 3]
    assert len(caplog.messages) == 2


def test_a_shard_of_the_first_format_is_read(tmp_path: Path):
    tensors = {
        "keys": np.ones((3, 16), np.uint8),
        "descriptors": np.full((3, DIM), 7, np.float32),
        "blank": np.zeros(3, bool),
    }
    (tmp_path / ("a" * 32)).mkdir()
    path = tmp_path / ("a" * 32) / "0.safetensors"
    save_file(tensors, path, {"format": FORMATS[0], "fingerprint": "a" * 32})
    assert (np.asarray(store_in(tmp_path).all()) == 7).all()


@pytest.mark.parametrize(
    ("metadata", "changes"),
    [
        ({"format": "another", "fingerprint": "a" * 32}, {}),
        ({"format": FORMATS[0], "fingerprint": "b" * 32}, {}),
        (
            {"format": FORMATS[0], "fingerprint": "a" * 32},
            {"descriptors": np.ones((3, DIM + 1), np.float32)},
        ),
        (
            {"format": FORMATS[0], "fingerprint": "a" * 32},
            {"descriptors": np.ones((3, DIM), np.int32)},
        ),
        ({"format": FORMATS[0], "fingerprint": "a" * 32}, {"keys": np.ones((2, 16), np.uint8)}),
        ({"format": FORMATS[0], "fingerprint": "a" * 32}, {"blank": np.ones((), bool)}),
        ({"format": FORMATS[0], "fingerprint": "a" * 32}, {"more": np.ones(3)}),
    ],
)
def test_a_foreign_shard_is_named(one_shard: Path, metadata, changes, tmp_path: Path, caplog):
    tensors = {
        "keys": np.ones((3, 16), np.uint8),
        "descriptors": np.ones((3, DIM), np.float32),
        "blank": np.zeros(3, bool),
    }
    save_file(tensors | changes, one_shard, metadata)
    assert f"{one_shard.name}: not a shard" in given_up(tmp_path, caplog)
