import numpy as np
import pytest
import torch

from niphash.errors import InputError
from niphash.hashing.fine_tuning import Descent, SampledStream, check_choice, gather, resident


def test_gather_puts_the_members_of_a_tuple_first():
    descriptors = np.arange(40, dtype=np.float16).reshape(10, 4)
    rows = np.array([[0, 3, 9], [5, 5, 1]])
    found = gather(descriptors, rows)
    assert found.dtype == torch.float32
    assert found.shape == (3, 2, 4)
    for b in range(2):
        for n in range(3):
            assert found[n, b].tolist() == descriptors[rows[b, n]].tolist()


def test_small_descriptors_are_held_in_memory(tmp_path, monkeypatch):
    path = tmp_path / "descriptors.npy"
    np.save(path, np.ones((8, 4), np.float16))
    mapped = np.load(path, mmap_mode="r")
    assert resident(mapped).dtype == np.float32
    monkeypatch.setattr("niphash.hashing.fine_tuning.RESIDENT_BYTES", 8 * 4 * 4 - 1)
    assert resident(mapped) is mapped


def test_batches_depend_on_seed_and_epoch_alone():
    def drawn(seed: int, epoch: int) -> list[list[int]]:
        stream = SampledStream(lambda generator: generator.integers(1000, size=4).tolist(), 3, seed)
        stream.epoch = epoch
        return list(stream)

    assert len(drawn(0, 0)) == 3
    assert drawn(0, 0) == drawn(0, 0)
    assert drawn(0, 0) != drawn(0, 1)
    assert drawn(0, 0) != drawn(1, 0)


def test_bad_input():
    with pytest.raises(InputError, match="iterations=0"):
        Descent(0, 0.1, 0.9)
    with pytest.raises(InputError, match="start=cold: choose one of rbm, random"):
        check_choice("start", "cold", ("rbm", "random"))
