"""The store: what is in it, what a kill leaves, two processes, hostile files."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

import niphash
from niphash.data.images import ImageSet, UnreadableImage, as_image_set
from niphash.descriptors import store as store_module
from niphash.descriptors.describer import Described, Describer, DescribeReport, Skipped
from niphash.descriptors.store import DescriptorStore, StoredDescriptors, describe_once, describe_to_store
from niphash.errors import InputError

DIM = 6


class Pixels(Describer):
    """Describes a photo by its first pixels; counts what it has read."""

    dim = DIM

    def __init__(self, batch: int = 3, name: str = "a" * 32, die_after: int | None = None) -> None:
        self.batch, self.name, self.die_after = batch, name, die_after
        self.read = 0

    @property
    def fingerprint(self) -> str:
        return self.name

    def fit(self, images: ImageSet) -> None:
        pass

    def batches(self, images: ImageSet) -> Iterator[Described]:
        for start in range(0, len(images), self.batch):
            rows, found, skipped, blank = [], [], [], []
            for row in range(start, min(start + self.batch, len(images))):
                if self.die_after is not None and self.read >= self.die_after:
                    raise KeyboardInterrupt
                self.read += 1
                try:
                    pixels = np.asarray(images.image(row), np.float32).reshape(-1)[:DIM]
                except UnreadableImage as error:
                    skipped.append(Skipped(row, error.image_id, error.reason))
                    continue
                rows.append(row)
                found.append((pixels + 1) / np.linalg.norm(pixels + 1))
                if pixels.max() == 0:
                    blank.append(row)
            stacked = np.stack(found) if found else np.empty((0, DIM), np.float32)
            yield Described(np.array(rows, np.int64), stacked, tuple(skipped), tuple(blank))

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        pass


def pictures(n: int, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(1, 255, (4, 4, 3), np.uint8)) for _ in range(n)]


@pytest.fixture
def photos(tmp_path: Path) -> ImageSet:
    """Twelve photos: number 3 is black, 5 is broken, 6 is missing, 8 is the same as 1."""
    folder = tmp_path / "photos"
    folder.mkdir()
    images = pictures(12)
    images[3] = Image.new("RGB", (4, 4))
    images[8] = images[1]
    for i, image in enumerate(images):
        image.save(folder / f"{i:02d}.png")
    (folder / "05.png").write_bytes(b"broken")
    found = ImageSet.from_folder(folder)
    (folder / "06.png").unlink()
    return found


def of(describer: Describer, root: Path, dtype: str = "float32") -> DescriptorStore:
    return DescriptorStore.of(describer, root, dtype)


def test_first_and_second_time_give_what_the_describer_gives(photos: ImageSet, tmp_path: Path):
    expected_report, fresh_report, again_report = DescribeReport(), DescribeReport(), DescribeReport()
    expected = Pixels().describe(photos, expected_report)
    describer = Pixels()
    fresh = describe_once(describer, photos, of(describer, tmp_path / "store"), fresh_report)
    assert describer.read == 10  # not the missing one, and one of the two that are the same
    again = describe_once(describer, photos, of(describer, tmp_path / "store"), again_report)
    assert describer.read == 11  # the broken one is tried again
    np.testing.assert_array_equal(fresh, expected)
    np.testing.assert_array_equal(again, expected)
    for report in (fresh_report, again_report):
        assert [(s.row, s.image_id) for s in report.skipped] == [(5, "05.png"), (6, "06.png")]
        assert report.blank == expected_report.blank == 1


def test_float16_halves_the_file(photos: ImageSet, tmp_path: Path):
    describer = Pixels()
    found = describe_once(describer, photos, of(describer, tmp_path, "float16"), DescribeReport())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, Pixels().describe(photos, DescribeReport()), atol=1e-3)
    np.testing.assert_array_equal(
        found, describe_once(describer, photos, of(describer, tmp_path), DescribeReport())
    )


def test_without_a_report_an_unreadable_photo_is_an_error(photos: ImageSet, tmp_path: Path):
    describer = Pixels()
    with pytest.raises(UnreadableImage, match=r"05.png"):
        describe_once(describer, photos, of(describer, tmp_path))


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_module, "SHARD_ROWS", 4)
    photos = as_image_set(pictures(20))
    with pytest.raises(KeyboardInterrupt):
        describe_once(Pixels(die_after=15), photos, of(Pixels(), tmp_path))
    assert len(of(Pixels(), tmp_path)) == 15
    second = Pixels()
    found = describe_once(second, photos, of(second, tmp_path))
    assert second.read == 5
    np.testing.assert_array_equal(found, Pixels().describe(photos))


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from niphash.descriptors.store import DescriptorStore
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


def _write(root: Path, number: int, start: "multiprocessing.synchronize.Event") -> None:
    start.wait()
    photos = as_image_set(pictures(30, seed=0) + pictures(30, seed=number + 1))
    describer = Pixels()
    describe_once(describer, photos, of(describer, root))


def test_two_processes_write_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_module, "SHARD_ROWS", 2)
    fork = multiprocessing.get_context("fork")
    start = fork.Event()
    processes = [fork.Process(target=_write, args=(tmp_path, number, start)) for number in range(2)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    photos = as_image_set(pictures(30, seed=0) + pictures(30, seed=1) + pictures(30, seed=2))
    describer = Pixels()
    store = of(describer, tmp_path)
    assert len(store) == 90
    np.testing.assert_array_equal(describe_once(describer, photos, store), Pixels().describe(photos))
    assert describer.read == 0


def test_refresh_sees_what_another_has_written(tmp_path: Path):
    mine, theirs = of(Pixels(), tmp_path), of(Pixels(), tmp_path)
    keys = np.arange(32, dtype=np.uint8).reshape(2, 16)
    theirs.append(keys, np.eye(2, DIM), np.array([False, True]))
    assert mine.find(keys).tolist() == [-1, -1]
    mine.refresh()
    positions = mine.find(keys[::-1])
    np.testing.assert_array_equal(mine.read(positions), np.eye(2, DIM)[::-1])
    assert mine.blank(positions).tolist() == [True, False]
    assert mine.blank(np.array([-1])).tolist() == [False]


def test_keys_with_zero_bytes_are_told_apart(tmp_path: Path):
    keys = np.zeros((4, 16), np.uint8)
    keys[1, 0], keys[2, 15], keys[3, 7] = 1, 1, 1
    store = of(Pixels(), tmp_path)
    store.append(keys, np.eye(4, DIM))
    np.testing.assert_array_equal(store.read(store.find(keys)), np.eye(4, DIM))
    assert len(store) == 4


@pytest.fixture
def stored(tmp_path: Path) -> StoredDescriptors:
    """Descriptors (i, 0, ...) of i = 0..49 in seven shards; image 20 of the set could not be read."""
    store = of(Pixels(), tmp_path)
    keys = np.random.default_rng(0).integers(0, 256, (50, 16), np.uint8)
    values = np.zeros((50, DIM), np.float32)
    values[:, 0] = np.arange(50)
    for rows in np.array_split(np.arange(50), 7):
        store.append(keys[rows], values[rows])
    positions = store.find(keys)
    positions[20] = -1
    return StoredDescriptors(store, positions)


def test_stored_descriptors_serve_as_an_array(stored: StoredDescriptors):
    whole = np.asarray(stored)
    assert whole.shape == stored.shape == (50, DIM)
    assert len(stored) == 50
    assert np.isnan(whole[20]).all()
    for rows in (3, -1, slice(5, 30, 3), [7, 2, 41], np.arange(50) % 2 == 0):
        np.testing.assert_array_equal(stored[rows], whole[rows])


@pytest.mark.parametrize("rows", [1, 8, 100])
def test_blocks_give_every_photo_once(stored: StoredDescriptors, rows: int):
    for seed in (None, 0, 1):
        blocks = list(stored.blocks(rows, seed))
        assert max(map(len, blocks)) <= rows
        assert sorted(np.concatenate(blocks)[:, 0].tolist()) == [i for i in range(50) if i != 20]
    ordered = np.concatenate(list(stored.blocks(rows)))[:, 0]
    assert ordered.tolist() == [i for i in range(50) if i != 20]
    shuffled = [np.concatenate(list(stored.blocks(rows, seed)))[:, 0].tolist() for seed in (0, 0, 1)]
    assert shuffled[0] == shuffled[1] != shuffled[2]


def test_everything_in_the_store(stored: StoredDescriptors):
    np.testing.assert_array_equal(np.asarray(stored.store.all())[:, 0], np.arange(50))


def shard(folder: Path) -> Path:
    (path,) = folder.glob("*/*.safetensors")
    return path


@pytest.fixture
def one_shard(tmp_path: Path) -> Path:
    of(Pixels(), tmp_path).append(np.ones((3, 16), np.uint8), np.ones((3, DIM)))
    return shard(tmp_path)


@pytest.mark.parametrize("left", [0, 4, 60, -1])
def test_a_cut_shard_is_named(one_shard: Path, left: int, tmp_path: Path):
    one_shard.write_bytes(one_shard.read_bytes()[:left])
    with pytest.raises(InputError, match=f"{one_shard.name}: a damaged shard"):
        of(Pixels(), tmp_path)


@pytest.mark.parametrize(
    ("metadata", "changes"),
    [
        ({"format": "another", "fingerprint": "a" * 32}, {}),
        ({"format": store_module.FORMAT, "fingerprint": "b" * 32}, {}),
        (
            {"format": store_module.FORMAT, "fingerprint": "a" * 32},
            {"descriptors": np.ones((3, DIM + 1), np.float32)},
        ),
        (
            {"format": store_module.FORMAT, "fingerprint": "a" * 32},
            {"descriptors": np.ones((3, DIM), np.int32)},
        ),
        ({"format": store_module.FORMAT, "fingerprint": "a" * 32}, {"keys": np.ones((2, 16), np.uint8)}),
        ({"format": store_module.FORMAT, "fingerprint": "a" * 32}, {"blank": np.ones((), bool)}),
        ({"format": store_module.FORMAT, "fingerprint": "a" * 32}, {"more": np.ones(3)}),
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
        of(Pixels(), tmp_path)


def test_another_describer_has_another_folder(photos: ImageSet, tmp_path: Path):
    first, second = Pixels(), Pixels(name="b" * 32)
    describe_once(first, photos, of(first, tmp_path), DescribeReport())
    assert len(of(second, tmp_path)) == 0
    with pytest.raises(ValueError, match="another describer"):
        describe_to_store(second, photos, of(first, tmp_path))


def test_a_wrong_dtype_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"store.dtype=float64"):
        of(Pixels(), tmp_path, "float64")
