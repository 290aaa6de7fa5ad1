from pathlib import Path

import numpy as np
import pytest

from niphash.descriptors.store.store import DescriptorStore, StoredDescriptors

DIM = 6


@pytest.fixture
def stored(tmp_path: Path) -> StoredDescriptors:
    """Descriptors (i, 0, ...) of i = 0..49 in seven shards; image 20 of the set could not be read."""
    store = DescriptorStore(tmp_path, "a" * 32, DIM)
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
