"""Places of judged images against counting one by one."""

import numpy as np
import pytest
from PIL import Image

from niphash.data.images import ImageSet
from niphash.data.task import Relevance, RetrievalTask
from niphash.errors import InputError
from niphash.search import distances as module
from niphash.search.ranking import (
    Ranking,
    judged_images,
    rank_codes,
    rank_descriptors,
    ranking_from_lists,
)


def random_truth(rng: np.random.Generator, queries: int, images: int) -> list[Relevance]:
    kinds = rng.choice(3, (queries, images), p=[0.7, 0.2, 0.1])
    return [Relevance(np.flatnonzero(k == 1), np.flatnonzero(k == 2)) for k in kinds]


def assert_places(ranking: Ranking, table: np.ndarray, readable: np.ndarray) -> None:
    """``table``: integer distances [Q, N]."""
    rows = zip(ranking.judged_queries, ranking.judged, ranking.nearer, ranking.tied, strict=True)
    for row, (query, image, nearer, tied) in enumerate(rows):
        if not readable[image]:
            assert (nearer, tied) == (-1, 0)
            continue
        same = (table[query] == table[query, image]) & readable
        assert nearer == np.sum((table[query] < table[query, image]) & readable)
        assert tied == np.sum(same)
        if ranking.tied_before is not None:
            assert ranking.tied_before[row] == np.sum(same[:image])


@pytest.mark.parametrize("block_bytes", [1024 * 9, 2**25])
def test_rank_codes(block_bytes, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(0)
    queries, database = (rng.integers(0, 32, (n, 1), np.uint8) for n in (9, 120))
    truth, readable = random_truth(rng, 9, 120), rng.random(120) > 0.1
    ranking = rank_codes(queries, database, truth, k=20, readable=readable, tied_before=True)
    table = np.bitwise_count(queries[:, None, 0] ^ database[None, :, 0]).astype(int)
    assert_places(ranking, table, readable)
    assert np.all(readable[ranking.ids])
    keys = np.where(readable, table * 1000 + np.arange(120), 10**6)
    np.testing.assert_array_equal(ranking.ids, np.argsort(keys, axis=1)[:, :20])
    np.testing.assert_array_equal(ranking.distances, np.take_along_axis(table, ranking.ids, axis=1))


@pytest.mark.parametrize("rows", [5, 1000])
def test_rank_descriptors(rows, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 8 * 6 * rows)
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(15, 6))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    database = directions.astype(np.float32)[rng.integers(15, size=90)]  # equal pictures tie
    readable = rng.random(90) > 0.1
    database[~readable] = np.nan
    queries, truth = directions.astype(np.float32)[:7], random_truth(rng, 7, 90)
    ranking = rank_descriptors(queries, database, truth, k=200, tied_before=True)
    table = np.rint((1 - queries.astype(float) @ np.nan_to_num(database).T.astype(float)) * 2**20).astype(int)
    assert_places(ranking, table, readable)
    assert ranking.ids.shape == (7, 90)
    assert np.sum(ranking.ids[0] < 0) == np.sum(~readable)


def test_an_unreadable_query_retrieves_nothing():
    codes, truth = np.zeros((3, 8), np.uint8), [Relevance([0, 1])] * 3
    ranking = rank_codes(codes, codes, truth, readable_queries=np.array([True, False, True]))
    assert ranking.nearer.tolist() == [0, 0, -1, -1, 0, 0]
    assert ranking.ids[1].tolist() == [-1, -1, -1]


def test_lists_of_another_tool():
    truth = [Relevance([0, 3], [2]), Relevance([1])]
    ranking = ranking_from_lists([[3, 2, 1], []], truth, database_size=5)
    assert ranking.judged.tolist() == [0, 2, 3, 1]
    assert ranking.nearer.tolist() == [-1, 1, 0, -1]
    assert ranking.tied.tolist() == [0, 1, 1, 0]
    with pytest.raises(InputError, match="query 1 names image 4 twice"):
        ranking_from_lists([[0], [4, 4]], truth, 5)
    with pytest.raises(InputError, match="query 0 names image 5"):
        ranking_from_lists([[5], []], truth, 5)
    with pytest.raises(InputError, match="2 ground truths for 1 queries"):
        ranking_from_lists([[0]], truth, 5)
    with pytest.raises(InputError, match="names image 3"):
        ranking_from_lists([[0], []], truth, 3)


def test_judged_images_of_all_variants():
    picture = Image.new("RGB", (4, 4))
    images = ImageSet(tuple("abcde"), (picture,) * 5)
    variants = {"easy": (Relevance([1], [2]),), "hard": (Relevance([4], [1]),)}
    task = RetrievalTask("t", "p", images, images.subset([0]), (Relevance([1, 4]),), variants)
    offsets, judged = judged_images(task)
    assert (offsets.tolist(), judged.tolist()) == ([0, 3], [1, 2, 4])


def test_a_ranking_is_validated_and_frozen():
    good = {
        "ids": [[1, 0]],
        "distances": [[0, 3]],
        "offsets": [0, 2],
        "judged": [0, 2],
        "nearer": [1, -1],
        "tied": [1, 0],
        "tied_before": None,
        "database_size": 3,
    }
    ranking = Ranking(**good)
    with pytest.raises(ValueError, match="read-only"):
        ranking.nearer[0] = 0
    bad = {
        "ids": [[1, 3]],
        "distances": [[3, 0]],
        "offsets": [0, 1],
        "judged": [2, 0],
        "nearer": [-2, -1],
        "tied": [3, 0],
        "tied_before": [1, 0],
    }
    for name, value in bad.items():
        with pytest.raises(ValueError, match="not a ranking"):
            Ranking(**(good | {name: value}))
