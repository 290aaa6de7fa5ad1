"""The store: what is in it, an interrupted run, two processes."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from niphash.data.images import ImageSet, UnreadableImage, as_image_set
from niphash.descriptors.describer import Described, Describer, DescribeReport, Skipped
from niphash.descriptors.store import store as store_module
from niphash.descriptors.store.store import DescriptorStore, describe_once, describe_to_store
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


def test_another_describer_has_another_folder(photos: ImageSet, tmp_path: Path):
    first, second = Pixels(), Pixels(name="b" * 32)
    describe_once(first, photos, of(first, tmp_path), DescribeReport())
    assert len(of(second, tmp_path)) == 0
    with pytest.raises(ValueError, match="another describer"):
        describe_to_store(second, photos, of(first, tmp_path))


def test_a_wrong_dtype_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"store.dtype=float64"):
        of(Pixels(), tmp_path, "float64")


def test_a_descriptor_that_is_no_number_is_refused_with_its_photo(tmp_path: Path):
    class Broken(Pixels):
        def batches(self, images: ImageSet) -> Iterator[Described]:
            for batch in super().batches(images):
                batch.descriptors[batch.rows == 4, 2] = np.nan
                yield batch

    with pytest.raises(InputError, match="image 4: its descriptor holds NaN"):
        describe_once(Broken(), as_image_set(pictures(8)), of(Broken(), tmp_path))
    assert len(of(Broken(), tmp_path)) == 4  # those before it
