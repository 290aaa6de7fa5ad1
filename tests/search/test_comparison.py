"""Which distance the codes of a method are compared by."""

import numpy as np
import pytest

from niphash.errors import InputError
from niphash.hashing.closed_form.itq import ITQ
from niphash.hashing.closed_form.niphash import NIPHash
from niphash.hashing.closed_form.pq import PQ
from niphash.search.comparison import choose_distance, code_distances, distance_ratios
from niphash.search.distances import HammingDistances
from niphash.search.exact import search_exhaustively
from niphash.training.fit_data import FitData


@pytest.fixture(scope="module")
def descriptors() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, 40))
    rows = np.repeat(centres, 5, axis=0) + 0.7 * rng.standard_normal((300, 40))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("method", "preferred", "possible"),
    [
        (ITQ, "hamming", {"hamming", "asymmetric"}),
        (NIPHash, "asymmetric", {"hamming", "asymmetric"}),
        (PQ, "asymmetric", {"asymmetric"}),
    ],
)
def test_auto_is_what_suits_the_method(method, preferred, possible):
    hasher = method(16)
    assert choose_distance(hasher, "auto") == preferred
    assert {choose_distance(hasher, choice) for choice in possible} == possible
    for choice in {"hamming", "asymmetric"} - possible:
        with pytest.raises(InputError, match=f"distance={choice}: codes of PQ are compared by asymmetric"):
            choose_distance(hasher, choice)


@pytest.mark.parametrize("method", [ITQ, PQ])
def test_the_code_of_a_photo_itself_is_nearest_by_every_distance(method, descriptors):
    hasher = method(32)
    hasher.fit(FitData(descriptors))
    codes = hasher.encode(descriptors)
    for choice in hasher.distances:
        source = code_distances(hasher, descriptors[:20], codes, distance=choice)
        found = search_exhaustively(source, 1)[0]
        own = source.as_reported(source.pairs(np.arange(20), np.arange(20))[0])
        np.testing.assert_allclose(found[:, 0], own, rtol=1e-6)
        assert isinstance(source, HammingDistances) == (choice == "hamming")


@pytest.mark.parametrize("method", [ITQ, PQ])
def test_a_query_without_a_descriptor_finds_nothing_and_the_others_what_they_find_alone(method, descriptors):
    hasher = method(32)
    hasher.fit(FitData(descriptors))
    codes = hasher.encode(descriptors)
    queries = descriptors[:5].copy()
    queries[[1, 4]] = np.nan
    for choice in hasher.distances:
        source = code_distances(hasher, queries, codes, distance=choice)
        distances, ids = search_exhaustively(source, 3)
        alone = search_exhaustively(code_distances(hasher, descriptors[:5], codes, distance=choice), 3)
        assert (ids[[1, 4]] == -1).all()
        np.testing.assert_array_equal(ids[[0, 2, 3]], alone[1][[0, 2, 3]])
        np.testing.assert_array_equal(distances[[0, 2, 3]], alone[0][[0, 2, 3]])
        _, readable = source.pairs(np.arange(5), np.arange(5))
        np.testing.assert_array_equal(readable, [True, False, True, True, False])


def test_a_query_that_is_not_rounded_finds_more(descriptors):
    """Nearest but one of 300, five of each object: the same database codes, queries with and without bits."""
    hasher = ITQ(16)
    hasher.fit(FitData(descriptors))
    codes, objects = hasher.encode(descriptors), np.arange(300) // 5
    found = {}
    for choice in hasher.distances:
        ids = search_exhaustively(code_distances(hasher, descriptors, codes, distance=choice), 5)[1]
        found[choice] = np.mean(objects[ids] == objects[:, None])
    assert found["asymmetric"] > found["hamming"] + 0.02


def test_a_ratio_is_1_where_both_distances_are_0():
    near, other = np.array([2.0, 0, 0, 3, np.inf, 1, -1e-9]), np.array([8.0, 5, 0, 0, 2, np.inf, 4])
    assert distance_ratios(near, other).tolist() == [0.25, 0, 1, np.inf, np.inf, 0, 0]
    assert distance_ratios(np.array([[2, 4]]), np.array([[4]])).tolist() == [[0.5, 1]]
