"""Clusters against merging one by one, and intervals that hold the mean as often as they say."""

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from niphash.data.images import ImageSet
from niphash.data.task import Relevance, RetrievalTask
from niphash.evaluation.intervals import (
    bootstrap_interval,
    clusters_of_links,
    query_clusters,
    query_photos,
    ratio_interval,
)

from . import naive


@pytest.mark.parametrize("relevant", [0.5, 1.0, 3.0])
def test_clusters_are_what_merging_one_by_one_gives(relevant):
    rng = np.random.default_rng(0)
    for _ in range(30):
        truth = [Relevance(rng.integers(0, 40, rng.poisson(relevant))) for _ in range(25)]
        expected = naive.clusters([set(one.relevant.tolist()) for one in truth])
        assert query_clusters(truth).tolist() == expected


def test_numbers_of_queries_may_come_in_any_order_and_be_any_numbers():
    numbers = np.array([70, 3, 15, 9])
    clusters = clusters_of_links(numbers, np.array([3, 70, 15]), np.array([8, 8, 5]))
    assert clusters.tolist() == [0, 0, 1, 2]


def photos(count: int) -> ImageSet:
    pictures = tuple(Image.new("RGB", (4, 4)) for _ in range(count))
    return ImageSet(tuple(f"photo {i}" for i in range(count)), pictures)


def test_two_photos_that_are_each_relevant_to_the_other_are_one_cluster():
    database = photos(6)
    others = (Relevance([1], [0]), Relevance([0], [1]), Relevance([3], [2]), Relevance([2], [3]))
    task = RetrievalTask("t", "p", database, database.subset(range(4)), others)
    assert query_clusters(task).tolist() == [0, 0, 1, 1]
    assert query_clusters(others).tolist() == [0, 1, 2, 3]  # the ground truth alone knows no query's photo
    elsewhere = RetrievalTask("t", "p", database, photos(4), others)
    assert query_clusters(elsewhere).tolist() == [0, 1, 2, 3]


def test_photos_that_are_relevant_in_a_variant_join_too_and_junk_does_not():
    database = photos(6)
    variants = {"hard": (Relevance([5]), Relevance([5]), Relevance([], [5]))}
    truth = (Relevance([0]), Relevance([1]), Relevance([2], [0]))
    task = RetrievalTask("t", "p", database, photos(3), truth, variants)
    assert query_clusters(task).tolist() == [0, 0, 1]
    queries, found = query_photos(task)
    pairs = sorted(zip(queries.tolist(), found.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 5), (1, 1), (1, 5), (2, 2)]


def normal(rng: np.random.Generator, clusters: np.ndarray, trials: int, inside: float = 0.4) -> np.ndarray:
    """Return float [Q, trials], mean 0, variance 1, with the correlation ``inside`` in a cluster."""
    shared = rng.normal(size=(clusters.max() + 1, trials))[clusters]
    return np.sqrt(inside) * shared + np.sqrt(1 - inside) * rng.normal(size=(len(clusters), trials))


def scores(values: np.ndarray) -> np.ndarray:
    """Bend normal values to scores in 0 .. 1 of which most are 1, as the AP of easy queries."""
    return np.clip(1 + 0.5 * np.minimum(values - 0.3, 0), 0, 1)


def coverage(values: np.ndarray, clusters: np.ndarray, mean: float) -> float:
    """Return how many of the columns of ``values`` have an interval that holds ``mean``."""
    # Columns of one call share their draws of clusters, so a few calls with own draws say more.
    parts = np.array_split(values, 15, axis=1)
    low, high = np.concatenate([bootstrap_interval(part, clusters, i) for i, part in enumerate(parts)]).T
    return float(np.mean((low <= mean) & (mean <= high)))


EQUAL = np.repeat(np.arange(125), 4)
TRIALS = 4000


def test_intervals_of_clustered_queries_cover_as_they_say():
    """125 objects of 4 queries, correlation 0.4: 95 % are 95 %; over single queries they are 82 %."""
    values = normal(np.random.default_rng(0), EQUAL, TRIALS)
    assert 0.93 < coverage(values, EQUAL, 0) < 0.97
    assert coverage(values, np.arange(500), 0) < 0.85


def test_intervals_of_skewed_scores_cover_as_they_say():
    mean = stats.norm.expect(scores)
    rng = np.random.default_rng(1)
    assert 0.93 < coverage(scores(normal(rng, EQUAL, TRIALS)), EQUAL, mean) < 0.97


def test_intervals_of_paired_differences_cover_as_they_say():
    """Two methods on the same queries: hard queries are hard for both, and each has its own objects."""
    rng = np.random.default_rng(2)
    hard = normal(rng, EQUAL, TRIALS)
    first, second = (hard + 0.5 * normal(rng, EQUAL, TRIALS) + shift for shift in (0, 0.1))
    assert 0.93 < coverage(second - first, EQUAL, 0.1) < 0.97
    low, high = bootstrap_interval(second - first, EQUAL, seed=0).T
    alone = bootstrap_interval(second, EQUAL, seed=0)
    assert (high - low).mean() < 0.8 * (alone[:, 1] - alone[:, 0]).mean()


@pytest.mark.parametrize("count", [11, 20])
def test_intervals_of_few_clusters_cover_as_they_say(count):
    """Oxford has 11 landmarks of 5 queries; plain percentiles cover 91 % there."""
    clusters = np.repeat(np.arange(count), 5)
    assert 0.93 < coverage(normal(np.random.default_rng(3), clusters, TRIALS), clusters, 0) < 0.97


def test_intervals_of_unequal_clusters_cover_as_they_say():
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(125), np.minimum(rng.geometric(0.25, 125), 20))
    assert 0.93 < coverage(normal(rng, clusters, TRIALS), clusters, 0) < 0.97


def test_an_interval_is_that_of_a_loop_over_whole_clusters():
    """The same quantiles by drawing lists of queries, up to the noise of the draws."""
    rng = np.random.default_rng(5)
    clusters = rng.permutation(np.repeat(np.arange(300), rng.integers(1, 5, 300)))
    values = rng.random(len(clusters)) + 0.3 * (clusters % 2)
    members = [np.flatnonzero(clusters == one) for one in range(300)]
    means = [
        values[np.concatenate([members[i] for i in rng.integers(300, size=300)])].mean() for _ in range(4000)
    ]
    low, high = bootstrap_interval(values[:, None], clusters, seed=0)[0]
    assert [low, high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.1 * (high - low))


def test_an_interval_is_that_of_scipy_at_the_same_level():
    rng = np.random.default_rng(8)
    clusters = np.repeat(np.arange(12), rng.integers(1, 6, 12))
    values = rng.random(len(clusters))
    level = 2 * stats.norm.cdf(np.sqrt(12 / 11) * stats.t.ppf(0.975, 11)) - 1
    sums, sizes = (np.bincount(clusters, weights=w) for w in (values, np.ones_like(values)))
    expected = stats.bootstrap(
        (sums, sizes),
        lambda first, second, axis: first.sum(axis) / second.sum(axis),
        paired=True,
        confidence_level=level,
        method="percentile",
        rng=rng,
    ).confidence_interval
    low, high = bootstrap_interval(values[:, None], clusters, seed=0, resamples=10_000)[0]
    assert [low, high] == pytest.approx(list(expected), abs=0.05 * (high - low))


def test_an_interval_is_seeded_and_knows_clusters_by_any_number():
    rng = np.random.default_rng(6)
    values, clusters = rng.random((60, 3)), np.repeat(np.arange(20), 3)
    interval = bootstrap_interval(values, clusters, seed=0)
    np.testing.assert_array_equal(interval, bootstrap_interval(values, clusters * 7 + 5, seed=0))
    assert np.all(interval != bootstrap_interval(values, clusters, seed=1))
    assert interval[1] == pytest.approx(bootstrap_interval(values[:, 1:2], clusters, seed=0)[0], abs=1e-15)


def test_an_interval_of_equal_values_is_a_point_and_one_cluster_has_none():
    equal = np.full((6, 1), 0.3)
    assert bootstrap_interval(equal, np.array([0, 0, 1, 1, 1, 2]), seed=0) == pytest.approx(
        np.array([[0.3, 0.3]])
    )
    for rows in (0, 1, 6):
        assert np.isnan(bootstrap_interval(equal[:rows], np.zeros(rows, int), seed=0)).all()


def test_a_ratio_of_two_methods_is_covered_as_well():
    rng = np.random.default_rng(7)
    hard = normal(rng, EQUAL, TRIALS)
    first, second = (3 + 0.5 * hard + 0.2 * normal(rng, EQUAL, TRIALS) for _ in range(2))
    low, high = ratio_interval(1.1 * first, second, EQUAL, seed=0).T
    assert 0.93 < np.mean((low <= 1.1) & (high >= 1.1)) < 0.97
