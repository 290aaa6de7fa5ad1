"""Integer distances against loops, and what keeps them exact."""

import numpy as np
import pytest

from niphash.errors import InputError
from niphash.hashing.codes import pack_bits
from niphash.search import distances as module
from niphash.search.distances import (
    AsymmetricDistances,
    CosineDistances,
    Distances,
    HammingDistances,
    NearestOfSeveral,
    WeightedHammingDistances,
)


def all_distances(source: Distances) -> np.ndarray:
    """Every pair, -9 where no block speaks of it."""
    table = np.full((source.queries, source.database), -9, np.int64)
    for block in source.blocks():
        assert np.all(table[np.ix_(block.queries, block.ids)] == -9), "a pair came twice"
        table[np.ix_(block.queries, block.ids)] = block.distances
    return table


def unit_rows(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    rows = rng.normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8, 12, 32])
def test_hamming_counts_differing_bits(size):
    rng = np.random.default_rng(size)
    queries, database = (rng.integers(0, 256, (n, size), np.uint8) for n in (5, 40))
    database[0] = 255 - queries[0]
    expected = [[sum(int(byte).bit_count() for byte in q ^ d) for d in database] for q in queries]
    np.testing.assert_array_equal(all_distances(HammingDistances(queries, database)), expected)
    assert expected[0][0] == 8 * size


def test_hamming_leaves_out_what_is_unreadable():
    codes = np.arange(12, dtype=np.uint8)[:, None]
    readable, readable_queries = np.arange(12) % 3 > 0, np.arange(12) != 5
    source = HammingDistances(codes, codes, readable, readable_queries)
    known = all_distances(source) >= 0
    np.testing.assert_array_equal(known, np.outer(readable_queries, readable))
    grid = np.indices((12, 12)).reshape(2, -1)
    np.testing.assert_array_equal(source.pairs(*grid)[1], known.ravel())


def test_cosine_is_one_minus_the_inner_product():
    rng = np.random.default_rng(0)
    queries, database = unit_rows(rng, 7, 50), unit_rows(rng, 30, 50)
    source = CosineDistances(queries, database)
    exact = 1 - queries.astype(np.float64) @ database.T.astype(np.float64)
    np.testing.assert_allclose(source.as_reported(all_distances(source)), exact, atol=1e-6)


def test_cosine_does_not_depend_on_the_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    queries, database = unit_rows(rng, 20, 97), unit_rows(rng, 300, 97)
    whole = all_distances(CosineDistances(queries, database))
    monkeypatch.setattr(module, "BLOCK_BYTES", 8 * 97 * 7)
    source = CosineDistances(queries, database)
    assert source.steps == 3 * 43
    np.testing.assert_array_equal(all_distances(source), whole)
    grid = np.indices(whole.shape).reshape(2, -1)
    np.testing.assert_array_equal(source.pairs(*grid)[0], whole.ravel())


def test_cosine_sums_are_exact_in_any_order():
    """Shuffled components give the same integers, which floating-point sums do not."""
    rng = np.random.default_rng(2)
    queries, database = unit_rows(rng, 20, 4096), unit_rows(rng, 100, 4096)
    order = rng.permutation(4096)
    first = all_distances(CosineDistances(queries, database))
    second = all_distances(CosineDistances(queries[:, order], database[:, order]))
    np.testing.assert_array_equal(first, second)


def test_cosine_leaves_out_nan_rows():
    rng = np.random.default_rng(3)
    queries, database = unit_rows(rng, 4, 8), unit_rows(rng, 9, 8)
    queries[2], database[5] = np.nan, np.nan
    known = all_distances(CosineDistances(queries, database)) != -9
    np.testing.assert_array_equal(known, np.outer(np.arange(4) != 2, np.arange(9) != 5))


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="no common length"):
        HammingDistances(np.zeros((1, 8), np.uint8), np.zeros((1, 4), np.uint8))
    with pytest.raises(InputError, match="no common dimension"):
        CosineDistances(np.zeros((1, 8)), np.zeros((1, 4)))
    with pytest.raises(InputError, match="L2 norm"):
        list(CosineDistances(np.ones((1, 8)), np.ones((1, 8))).blocks())


def test_the_nearest_of_several_copies_counts():
    rng = np.random.default_rng(0)
    queries, copies = rng.integers(0, 256, (7, 4), np.uint8), rng.integers(0, 256, (3, 50, 4), np.uint8)
    sources = [HammingDistances(queries, copy) for copy in copies]
    bits = np.unpackbits(queries[:, None, None] ^ copies.transpose(1, 0, 2)[None], axis=-1)
    expected = bits.sum(-1).min(-1)  # [7, 50]
    found = np.zeros((7, 50), int)
    nearest = NearestOfSeveral(sources)
    for block in nearest.blocks():
        found[np.ix_(block.queries, block.ids)] = block.distances
    np.testing.assert_array_equal(found, expected)
    rows, ids = np.divmod(np.arange(350), 50)
    np.testing.assert_array_equal(nearest.pairs(rows, ids)[0], expected[rows, ids])


def test_asymmetric_distances_are_those_of_the_function():
    rng = np.random.default_rng(0)
    centroids = 0.3 * rng.normal(size=(256, 5)).astype(np.float32)
    queries, codes = 0.3 * rng.normal(size=(6, 5)).astype(np.float32), rng.integers(0, 256, (40, 1), np.uint8)

    def squared(some: np.ndarray, of: np.ndarray) -> np.ndarray:
        return np.square(some[:, None] - centroids[of[:, 0]][None]).sum(-1)

    readable = np.arange(40) % 7 != 0
    source = AsymmetricDistances(squared, queries, codes, readable)
    for block in source.blocks():
        assert readable[block.ids].all()
        np.testing.assert_allclose(
            source.as_reported(block.distances), squared(queries, codes)[:, block.ids], atol=1e-5
        )
    distances, known = source.pairs(np.array([2, 2, 5]), np.array([1, 7, 39]))
    np.testing.assert_array_equal(known, [True, False, True])
    np.testing.assert_allclose(
        source.as_reported(distances), squared(queries, codes)[[2, 2, 5], [1, 7, 39]], atol=1e-5
    )


def test_distances_that_leave_no_room_for_an_id_are_refused():
    source = AsymmetricDistances(
        lambda q, c: np.full((len(q), len(c)), 8.0), np.ones((2, 4)), np.zeros((3, 1), np.uint8)
    )
    with pytest.raises(InputError, match="too long; divide each descriptor by its L2 norm"):
        next(source.blocks())


def test_weighted_hamming_counts_a_bit_for_as_much_as_the_query_is_sure():
    rng = np.random.default_rng(6)
    projections = rng.normal(size=(5, 24)).astype(np.float32)
    codes, readable = rng.integers(0, 256, (40, 3), np.uint8), np.arange(40) % 7 != 0
    source = WeightedHammingDistances(projections, codes, readable)
    found = source.as_reported(all_distances(source))
    for query, projection in enumerate(projections.astype(np.float64)):
        weights = np.abs(projection) / np.abs(projection).mean()
        for image in np.flatnonzero(readable):
            bits = [codes[image, j // 8] >> (j % 8) & 1 for j in range(24)]
            expected = sum(w for w, p, bit in zip(weights, projection, bits, strict=True) if (p > 0) != bit)
            assert found[query, image] == pytest.approx(expected, abs=1e-4)
    assert np.all(all_distances(source)[:, ~readable] == -9)
    grid = np.indices(found.shape).reshape(2, -1)
    distances, known = source.pairs(*grid)
    np.testing.assert_array_equal(known, readable[grid[1]])
    np.testing.assert_array_equal(distances[known], all_distances(source).ravel()[known])


def test_weighted_hamming_is_exact_in_any_block_and_order(monkeypatch):
    rng = np.random.default_rng(7)
    projections = rng.normal(size=(20, 512)).astype(np.float32) ** 3
    bits = rng.integers(0, 2, (300, 512))
    whole = all_distances(WeightedHammingDistances(projections, pack_bits(bits)))
    order = rng.permutation(512)
    shuffled = WeightedHammingDistances(projections[:, order], pack_bits(bits[:, order]))
    np.testing.assert_array_equal(all_distances(shuffled), whole)
    monkeypatch.setattr(module, "BLOCK_BYTES", 4 * 512 * 7)
    source = WeightedHammingDistances(projections, pack_bits(bits))
    assert source.steps == 43
    np.testing.assert_array_equal(all_distances(source), whole)


def test_equal_weights_are_plain_hamming_distance_and_so_is_a_query_on_every_threshold():
    rng = np.random.default_rng(8)
    signs, codes = rng.choice([-1.0, 1.0], (6, 64)), rng.integers(0, 256, (50, 8), np.uint8)
    plain = all_distances(HammingDistances(pack_bits(signs > 0), codes))
    for scale in (1e-30, 1.0, 1e30):
        source = WeightedHammingDistances(scale * signs, codes)
        np.testing.assert_array_equal(source.as_reported(all_distances(source)), plain)
    undecided = WeightedHammingDistances(np.zeros((1, 64)), codes)
    ones = np.bitwise_count(codes).sum(axis=1)
    np.testing.assert_array_equal(undecided.as_reported(all_distances(undecided))[0], ones)


def test_projections_of_another_length_than_the_codes_are_refused():
    with pytest.raises(InputError, match="no common length"):
        WeightedHammingDistances(np.ones((2, 16)), np.zeros((3, 8), np.uint8))
