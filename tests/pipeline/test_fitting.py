"""Photos held out of hashing, and the pairs that are left."""

from pathlib import Path

import numpy as np
import pytest

from niphash.config import compose
from niphash.errors import InputError
from niphash.pipeline.fitting import held_out_rows, pairs_among
from niphash.pipeline.run import assemble
from niphash.pipeline.training import train


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.001, 1), (0.25, 10), (0.9, 36)])
def test_a_seeded_share_is_held_out_with_all_views(share, expected):
    held_out = held_out_rows(40, 2, share, seed=3)
    photos, *views = held_out.reshape(3, 40)
    assert photos.sum() == expected
    assert all(np.array_equal(photos, view) for view in views)
    assert np.array_equal(held_out, held_out_rows(40, 2, share, seed=3))
    assert expected == 0 or not np.array_equal(held_out, held_out_rows(40, 2, share, seed=4))


def test_pairs_are_those_of_kept_rows_under_their_new_numbers():
    kept = np.array([True, False, True, True, False, True])
    pairs = np.array([[0, 2], [0, 1], [3, 5], [4, 5], [5, 0]])
    assert pairs_among(pairs, kept).tolist() == [[0, 1], [2, 3], [3, 0]]
    assert pairs_among(None, kept) is None


@pytest.mark.parametrize("share", ["1", "-0.1", "half"])
def test_a_share_out_of_range_is_refused_before_anything_is_made(share, tmp_path: Path):
    cfg = compose([f"fit.held_out={share}", f"paths.data_dir={tmp_path}"])
    with pytest.raises(InputError, match=f"fit.held_out={share}: give a number of at least 0 and below 1"):
        train(assemble(cfg, tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []
