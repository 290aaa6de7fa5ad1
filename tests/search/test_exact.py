"""Exhaustive search against a full sort and against faiss."""

import faiss
import numpy as np
import pytest

from niphash.search import distances as module
from niphash.search.distances import HammingDistances
from niphash.search.exact import search_descriptors, search_exhaustively


@pytest.mark.parametrize("block_bytes", [1024 * 16, 2**25])
@pytest.mark.parametrize("k", [1, 7, 200, 250])
def test_order_is_distance_then_id(k, block_bytes, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(k)
    queries, database = (rng.integers(0, 16, (n, 1), np.uint8) for n in (6, 200))
    distances, ids = search_exhaustively(HammingDistances(queries, database), k)
    assert distances.dtype == np.int32
    for query in range(6):
        table = [(int(queries[query, 0] ^ code).bit_count(), i) for i, code in enumerate(database[:, 0])]
        expected = (sorted(table) + [(-1, -1)] * k)[:k]
        assert list(zip(distances[query].tolist(), ids[query].tolist(), strict=True)) == expected


def test_float_search_agrees_with_faiss():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(520, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries, database = rows[:20], rows[20:]
    flat = faiss.IndexFlatIP(32)
    flat.add(database)
    products, expected = flat.search(queries, 10)
    distances, ids = search_descriptors(queries, database, 10)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(distances, 1 - products, atol=2e-6)


def test_equal_pictures_are_ordered_by_id_and_nan_rows_are_not_found():
    rng = np.random.default_rng(1)
    row = rng.normal(size=16)
    database = np.tile((row / np.linalg.norm(row)).astype(np.float32), (12, 1))
    database[3] = np.nan
    queries = database[[0, 3]]
    distances, ids = search_descriptors(queries, database, 12)
    assert ids[0].tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, -1]
    assert ids[1].tolist() == [-1] * 12
    np.testing.assert_allclose(distances[0, :11], 0, atol=1e-6)
