"""Matching pairs: groups of what is linked, and pairs that cannot be."""

import numpy as np
import pytest

from niphash.errors import InputError
from niphash.training.pairs import check_pairs, matching_groups


def test_chains_of_pairs_are_one_thing():
    groups = matching_groups(np.array([[0, 1], [1, 2], [4, 5]]), count=6)
    assert groups[0] == groups[1] == groups[2]
    assert groups[4] == groups[5]
    assert len(set(groups.tolist())) == 3


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (None, "no matching pairs"),
        (np.empty((0, 2), np.int64), "no matching pairs"),
        (np.array([[0, 1], [2, 9]]), "pair 1 names a photo that is not among the 5"),
        (np.array([[0, 1], [-1, 2]]), "pair 1 names a photo that is not"),
        (np.array([[0, 1], [2, 2]]), "pair 1 names one photo twice"),
        (np.array([0, 1, 2]), "shape"),
    ],
)
def test_bad_pairs_are_refused(pairs, words):
    with pytest.raises(InputError, match=words):
        check_pairs(pairs, 5)
