"""Triplet losses against naive loops and autograd; neighbours and samplers against brute force."""

import math
import tracemalloc

import numpy as np
import pytest
import torch

from niphash.errors import InputError
from niphash.hashing.rbm import triplet_sampler as triplets
from niphash.hashing.rbm.triplet_sampler import (
    TripletSampler,
    euclidean_distances,
    hinge_loss,
    nearest_neighbours,
    softmax_ratio_loss,
    threshold_candidates,
)


@pytest.fixture
def descriptors() -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 10))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_losses_equal_naive_loops():
    generator = torch.Generator().manual_seed(0)
    positive, negative = (3 * torch.rand(40, generator=generator, dtype=torch.float64) for _ in range(2))
    softmax = hinge = 0.0
    for p, n in zip(positive.tolist(), negative.tolist(), strict=True):
        share = math.exp(p) / (math.exp(p) + math.exp(n))
        softmax += max(0.0, 1 + share - (1 - share))
        hinge += max(0.0, 0.5 + p - n)
    assert softmax_ratio_loss(positive, negative).item() == pytest.approx(softmax / 40, rel=1e-12)
    assert hinge_loss(positive, negative, 0.5).item() == pytest.approx(hinge / 40, rel=1e-12)


def test_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(1)
    q, p, n = (torch.rand(8, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    q.requires_grad_(True)
    for loss in (softmax_ratio_loss, hinge_loss):
        assert torch.autograd.gradcheck(
            lambda q, loss=loss: loss(euclidean_distances(q, p), euclidean_distances(q, n)), q
        )


def test_equal_activations_give_no_infinite_gradient():
    q = torch.ones(2, 3, requires_grad=True)
    euclidean_distances(q, torch.ones(2, 3)).sum().backward()
    assert torch.equal(q.grad, torch.zeros(2, 3))


def test_neighbours_are_those_of_the_full_table(descriptors):
    table = np.sqrt(((descriptors[:, None].astype(np.float64) - descriptors[None]) ** 2).sum(axis=2))
    np.fill_diagonal(table, np.inf)
    distances, rows = nearest_neighbours(descriptors, 7)
    np.testing.assert_array_equal(rows, np.argsort(table, axis=1)[:, :7])
    np.testing.assert_allclose(distances, np.sort(table, axis=1)[:, :7], atol=1e-3)


@pytest.mark.parametrize(("query_rows", "database_rows"), [(7, 5), (60, 8), (13, 100)])
def test_small_blocks_find_the_same_neighbours(descriptors, monkeypatch, query_rows, database_rows):
    distances, rows = nearest_neighbours(descriptors, 9)
    monkeypatch.setattr(triplets, "QUERY_ROWS", query_rows)
    monkeypatch.setattr(triplets, "DATABASE_ROWS", database_rows)
    in_blocks = nearest_neighbours(descriptors, 9)
    np.testing.assert_array_equal(in_blocks[1], rows)
    np.testing.assert_allclose(in_blocks[0], distances, atol=1e-3)
    queries = np.array([3, 17, 58])
    some = nearest_neighbours(descriptors, 9, queries)
    np.testing.assert_array_equal(some[1], rows[queries])
    np.testing.assert_allclose(some[0], distances[queries], atol=1e-3)


def test_neighbours_in_a_file_are_found_in_little_memory(tmp_path, monkeypatch):
    x = np.random.default_rng(0).standard_normal((8000, 256)).astype(np.float16)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr(triplets, "QUERY_ROWS", 64)
    monkeypatch.setattr(triplets, "DATABASE_ROWS", 256)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    tracemalloc.start()
    nearest_neighbours(mapped, 5, np.arange(0, 8000, 50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8000 * 256 * 4 / 4  # a quarter of a float32 copy


def test_only_queries_are_drawn_as_queries(descriptors):
    queries = np.array([3, 17, 58])
    lists = nearest_neighbours(descriptors, 8, queries)
    drawn = TripletSampler(*lists, queries=queries).draw(200, np.random.default_rng(0))
    every = TripletSampler(*nearest_neighbours(descriptors, 8))
    assert set(drawn[:, 0]) == set(queries)
    for query, positive, negative in drawn:
        neighbours = every.rows[query].tolist()
        assert neighbours.index(positive) < neighbours.index(negative)


def test_copies_of_an_image_do_not_name_it_as_its_own_neighbour():
    copies = np.ones((6, 4), np.float32)
    distances, rows = nearest_neighbours(copies, 3)
    assert rows.shape == (6, 3)
    assert (distances == 0).all()
    assert (rows != np.arange(6)[:, None]).all()


def test_half_precision_is_read(descriptors):
    _, rows = nearest_neighbours(descriptors.astype(np.float16), 3)
    np.testing.assert_array_equal(
        rows, nearest_neighbours(descriptors.astype(np.float16).astype(np.float32), 3)[1]
    )


@pytest.mark.parametrize("candidates", [1, 2, 3])
@pytest.mark.parametrize("thresholds", [(0.5, 1.0), (0.0, 3.0), (2.5, 3.0), (0.0, 0.1)])
def test_candidates_are_the_ones_nearest_to_the_thresholds(descriptors, candidates, thresholds):
    distances, _ = nearest_neighbours(descriptors, 12)
    positives, negatives = threshold_candidates(distances, thresholds, candidates)
    assert positives.shape == negatives.shape == (60, candidates)
    for i, row in enumerate(distances.astype(np.float64)):
        runs = range(12 - 2 * candidates + 1)
        miss = [np.abs(row[s : s + candidates] - thresholds[0]).max() for s in runs]
        assert np.abs(row[positives[i]] - thresholds[0]).max() == pytest.approx(min(miss), abs=1e-6)
        rest = range(positives[i, -1] + 1, 12 - candidates + 1)
        miss = [np.abs(row[s : s + candidates] - thresholds[1]).max() for s in rest]
        assert np.abs(row[negatives[i]] - thresholds[1]).max() == pytest.approx(min(miss), abs=1e-6)


def test_thresholds_are_quantiles_and_the_positive_is_nearer(descriptors):
    distances, rows = nearest_neighbours(descriptors, 20)
    for sampling in ("threshold", "uniform"):
        sampler = TripletSampler(distances, rows, sampling, quantiles=(0.1, 0.6), candidates=2)
        assert sampler.thresholds == tuple(np.quantile(distances, (0.1, 0.6)))
        drawn = sampler.draw(500, np.random.default_rng(0))
        assert drawn.shape == (500, 3)
        for q, p, n in drawn:
            place = rows[q].tolist()
            assert place.index(p) < place.index(n)


def test_uniform_sampling_uses_the_whole_list_evenly(descriptors):
    distances, rows = nearest_neighbours(descriptors, 5)
    sampler = TripletSampler(distances, rows, "uniform")
    drawn = sampler.draw(20_000, np.random.default_rng(0))
    places = np.array([[np.flatnonzero(rows[q] == x)[0] for x in (p, n)] for q, p, n in drawn])
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(places.T), 1)
    expected = 20_000 / 10
    assert (np.abs(counts[np.triu_indices(5, 1)] - expected) < 0.15 * expected).all()
    assert counts[np.tril_indices(5)].sum() == 0


def test_threshold_sampling_with_one_candidate_is_a_function_of_the_query(descriptors):
    distances, rows = nearest_neighbours(descriptors, 20)
    drawn = TripletSampler(distances, rows).draw(400, np.random.default_rng(0))
    assert len({tuple(t) for t in drawn.tolist()}) == len({t[0] for t in drawn.tolist()})


def test_bad_input(descriptors):
    with pytest.raises(InputError, match="60 fit photos are too few"):
        nearest_neighbours(descriptors, 60)
    with pytest.raises(InputError, match="at least 2"):
        nearest_neighbours(descriptors, 1)
    broken = descriptors.copy()
    broken[9] = np.nan
    with pytest.raises(InputError, match="descriptor 9 "):
        nearest_neighbours(broken, 3)
    neighbours = nearest_neighbours(descriptors, 10)
    for quantiles in ((0.5, 0.1), (0.2, 0.2), (-0.1, 0.5), (0.5, 1.5)):
        with pytest.raises(InputError, match="quantiles"):
            TripletSampler(*neighbours, quantiles=quantiles)
    for candidates in (0, 6):
        with pytest.raises(InputError, match="candidates"):
            TripletSampler(*neighbours, candidates=candidates)
