"""Places of judged images after re-ranking, against a plain sort of every image."""

import numpy as np
import pytest

from niphash.data.task import Relevance
from niphash.evaluation.evaluator import evaluate
from niphash.search.ranking import rank_codes, ranking_from_lists
from niphash.search.rerank import rerank_ranking

QUERIES, IMAGES, FIRST = 12, 40, 10


@pytest.fixture
def codes() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (QUERIES, 1), np.uint8), rng.integers(0, 256, (IMAGES, 1), np.uint8)


@pytest.fixture
def truth() -> list[Relevance]:
    rng = np.random.default_rng(1)
    return [
        Relevance(rng.choice(IMAGES, 6, replace=False), rng.choice(IMAGES, 2, replace=False))
        for _ in range(QUERIES)
    ]


def test_stable_places_are_those_of_the_whole_list(codes, truth):
    ranking = rank_codes(*codes, truth, k=IMAGES, tied_before=True)
    rng = np.random.default_rng(2)
    found = np.stack([rng.permutation(row[:FIRST]) for row in ranking.ids])
    lists = [np.concatenate([new, row[FIRST:]]) for new, row in zip(found, ranking.ids, strict=True)]
    expected = evaluate(ranking_from_lists(lists, truth, IMAGES), truth, ties="stable")
    measured = evaluate(rerank_ranking(ranking, found), truth, ties="stable")
    for name, values in expected.per_query.items():
        assert np.array_equal(values, measured.per_query[name], equal_nan=True), name


def test_what_ties_with_the_last_stays_tied_behind(codes, truth):
    ranking = rank_codes(*codes, truth, k=IMAGES)
    rng = np.random.default_rng(3)
    # equal distances in any order before the first are taken
    shuffled = np.stack(
        [
            row[np.lexsort((rng.random(IMAGES), distances))]
            for row, distances in zip(ranking.ids, ranking.distances, strict=True)
        ]
    )
    found = shuffled[:, :FIRST]
    result = rerank_ranking(ranking, found)
    distance = np.bitwise_count(codes[0] ^ codes[1].T)  # [Q, N]
    for judged, query, nearer, tied in zip(
        result.judged, result.judged_queries, result.nearer, result.tied, strict=True
    ):
        place = np.flatnonzero(found[query] == judged)
        if len(place):
            assert (nearer, tied) == (place[0], 1)
            continue
        at = distance[query]
        others = np.setdiff1d(np.arange(IMAGES), found[query])
        assert nearer == FIRST + (at[others] < at[judged]).sum()
        assert tied == (at[others] == at[judged]).sum()


def test_few_results_and_unreadable_images(codes, truth):
    readable = np.zeros(IMAGES, bool)
    readable[:4] = True
    ranking = rank_codes(*codes, truth, k=6, readable=readable)
    found = np.full((QUERIES, FIRST), -1)
    found[:, :4] = ranking.ids[:, 3::-1]
    result = rerank_ranking(ranking, found)
    assert np.array_equal(result.ids[:, :4], found[:, :4])
    assert (result.ids[:, 4:] == -1).all()
    assert np.array_equal(result.nearer < 0, ranking.nearer < 0)


def test_the_order_that_it_had_changes_nothing_but_ties(codes, truth):
    ranking = rank_codes(*codes, truth, k=IMAGES, tied_before=True)
    result = rerank_ranking(ranking, ranking.ids[:, :FIRST])
    assert np.array_equal(result.ids, ranking.ids)
    assert np.array_equal(result.nearer + result.tied_before, ranking.nearer + ranking.tied_before)
