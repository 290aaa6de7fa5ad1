"""Metrics against naive loops, permutations, Monte Carlo and closed cases."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niphash.data.task import Relevance
from niphash.errors import InputError
from niphash.evaluation import functional
from niphash.search.ranking import Ranking, rank_codes, ranking_from_lists

from . import naive

METRICS = {
    "finite": (
        lambda groups: functional.average_precision(groups, "finite"),
        lambda ranked, relevant: naive.average_precision(ranked, relevant, "finite"),
    ),
    "trapezoid": (
        lambda groups: functional.average_precision(groups, "trapezoid"),
        lambda ranked, relevant: naive.average_precision(ranked, relevant, "trapezoid"),
    ),
    **{
        f"{name}@{k}": (
            lambda groups, name=name, k=k: getattr(functional, name)(groups, k),
            lambda ranked, relevant, name=name, k=k: getattr(naive, name)(ranked, relevant, k),
        )
        for name in ("recall_at", "hit_rate_at", "precision_at", "revisited_precision_at")
        for k in (1, 3, 10)
    },
    "ukb": (functional.ukb_score, naive.ukb_score),
}


def random_case(rng: np.random.Generator, images: int, levels: int) -> tuple[dict[int, int], Relevance]:
    """Distances of the retrieved images of one query, and its ground truth, perhaps with nothing relevant."""
    distances = rng.integers(levels, size=images)
    retrieved = rng.random(images) < rng.choice([1.0, 0.7])
    kinds = rng.choice(3, images, p=[0.6, 0.3, 0.1])
    relevance = Relevance(
        np.flatnonzero(kinds == 1) if rng.random() > 0.1 else [], np.flatnonzero(kinds == 2)
    )
    return {i: int(distances[i]) for i in range(images) if retrieved[i]}, relevance


def ranking_of(cases: list[tuple[dict[int, int], Relevance]], images: int) -> Ranking:
    """Places counted one by one."""
    rows = [
        (q, i) for q, (_, r) in enumerate(cases) for i in sorted({*r.relevant.tolist(), *r.junk.tolist()})
    ]
    places = []
    for query, image in rows:
        at = cases[query][0]
        if image in at:
            nearer = sum(d < at[image] for d in at.values())
            tied = [i for i, d in at.items() if d == at[image]]
            places.append((nearer, len(tied), sum(i < image for i in tied)))
        else:
            places.append((-1, 0, 0))
    nearer, tied, before = np.array(places, np.int64).reshape(-1, 3).T
    offsets = np.searchsorted([q for q, _ in rows], np.arange(len(cases) + 1))
    empty = np.full((len(cases), 0), -1)
    return Ranking(empty, empty, offsets, np.array([i for _, i in rows]), nearer, tied, before, images)


@pytest.mark.parametrize("ties", ["optimistic", "pessimistic", "stable"])
def test_metrics_agree_with_naive_loops_on_random_rankings(ties):
    rng = np.random.default_rng(0)
    cases = [random_case(rng, images=30, levels=int(rng.integers(1, 40))) for _ in range(3400)]
    groups = functional.tie_groups(ranking_of(cases, 30), [r for _, r in cases], ties)
    for name, (metric, reference) in METRICS.items():
        expected = []
        for distances, relevance in cases:
            relevant, junk = set(relevance.relevant.tolist()), set(relevance.junk.tolist())
            ranked = naive.settled(naive.ties_of(distances, junk), relevant, ties)
            expected.append(reference(ranked, relevant) if relevant else np.nan)
        np.testing.assert_allclose(metric(groups), expected, rtol=0, atol=1e-12, err_msg=name)


def test_expectation_is_the_mean_over_all_orders():
    rng = np.random.default_rng(1)
    cases = [random_case(rng, images=9, levels=int(rng.integers(2, 6))) for _ in range(300)]
    small = [
        (d, r)
        for d, r in cases
        if r.relevant.size and naive.number_of_orders(naive.ties_of(d, set(r.junk.tolist()))) <= 1500
    ]
    assert len(small) > 150
    groups = functional.tie_groups(ranking_of(small, 9), [r for _, r in small])
    means = {name: np.zeros(len(small)) for name in METRICS}
    for query, (distances, relevance) in enumerate(small):
        relevant = set(relevance.relevant.tolist())
        ranked = list(naive.orders(naive.ties_of(distances, set(relevance.junk.tolist()))))
        for name, (_, reference) in METRICS.items():
            means[name][query] = np.mean([reference(order, relevant) for order in ranked])
    for name, (metric, _) in METRICS.items():
        np.testing.assert_allclose(metric(groups), means[name], rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("relevant_images", [4, 60])
def test_expectation_agrees_with_monte_carlo_on_large_ties(relevant_images):
    rng = np.random.default_rng(2)
    draws = 1000
    distances = {i: int(d) for i, d in enumerate(rng.integers(3, size=400))}
    relevance = Relevance(rng.choice(380, relevant_images, replace=False), np.arange(380, 400))
    relevant, junk = set(relevance.relevant.tolist()), set(relevance.junk.tolist())
    groups = functional.tie_groups(ranking_of([(distances, relevance)], 400), [relevance])
    ties = naive.ties_of(distances, junk)
    ranked = [[i for tie in ties for i in rng.permutation(tie).tolist()] for _ in range(draws)]
    for name, (metric, reference) in METRICS.items():
        values = [reference(order, relevant) for order in ranked]
        error = np.std(values) / np.sqrt(draws)
        if name == "ukb" and relevant_images != 4:
            assert np.isnan(metric(groups)[0])
        else:
            assert abs(metric(groups)[0] - np.mean(values)) <= 4 * error + 1e-12, name


@pytest.mark.parametrize(
    ("nearer", "tied"), [(0, 1), (0, 5000), (40, 3), (63, 2), (64, 2), (65, 4000), (10**6, 7)]
)
def test_harmonic_difference(nearer, tied):
    exact = float(sum(Fraction(1, i) for i in range(nearer + 1, nearer + tied + 1)))
    assert functional.harmonic_difference(nearer, nearer + tied) == pytest.approx(exact, rel=2e-14)


@pytest.mark.parametrize(("tied", "relevant", "k"), [(10**6, 1000, 1000), (10**6, 3, 1000), (50, 45, 10)])
def test_hit_rate_inside_a_large_tie_is_the_exact_quotient(tied, relevant, k):
    groups = functional.TieGroups(*(np.array([x]) for x in (0, 0, tied, relevant, 0, relevant)))
    exact = 1 - Fraction(comb(tied - relevant, k), comb(tied, k))
    assert functional.hit_rate_at(groups, k)[0] == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize("convention", ["finite", "trapezoid"])
def test_a_tie_of_a_million_deep_in_the_ranking(convention):
    nearer, tied, relevant = 300_000, 1_000_000, 1000
    groups = functional.TieGroups(*(np.array([x]) for x in (0, nearer, tied, relevant, 0, relevant)))
    place = np.arange(1, tied + 1, dtype=np.longdouble)
    before = (place - 1) * (relevant - 1) / (tied - 1)
    at = (before + 1) / (nearer + place)
    if convention == "trapezoid":
        at = (at + before / (nearer + place - 1)) / 2
    assert functional.average_precision(groups, convention)[0] == pytest.approx(
        float(at.sum() / tied), abs=1e-13
    )


def test_known_average_precisions():
    """Hits at ranks 1, 3 of two relevant: (1 + 2/3) / 2; trapezoid (1 + (1/2 + 2/3) / 2) / 2."""
    relevance = [Relevance([4, 2])]
    groups = functional.tie_groups(ranking_from_lists([[4, 0, 2, 1]], relevance, 5), relevance)
    assert functional.average_precision(groups, "finite")[0] == pytest.approx(5 / 6)
    assert functional.average_precision(groups, "trapezoid")[0] == pytest.approx((1 + 7 / 12) / 2)


def test_revisited_precision_counts_down_to_the_last_relevant():
    relevance = [Relevance([0, 1]), Relevance([0, 9])]
    ranking = ranking_from_lists([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]], relevance, 10)
    groups = functional.tie_groups(ranking, relevance)
    np.testing.assert_allclose(functional.revisited_precision_at(groups, 5), [1.0, 1 / 5])


generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def random_search(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[Relevance]]:
    images, queries = int(rng.integers(1, 60)), int(rng.integers(1, 5))
    database = rng.integers(0, 8, (images, 1), np.uint8)
    truth = []
    for _ in range(queries):
        kinds = rng.choice(3, images, p=[0.5, 0.3, 0.2])
        truth.append(Relevance(np.flatnonzero(kinds == 1), np.flatnonzero(kinds == 2)))
    return rng.integers(0, 8, (queries, 1), np.uint8), database, truth


@settings(max_examples=50, deadline=None)
@given(generators)
def test_order_of_the_database_does_not_matter(rng):
    queries, database, truth = random_search(rng)
    order = rng.permutation(len(database))
    place = np.argsort(order)  # image i of the first database is image place[i] of the second
    moved = [Relevance(place[r.relevant], place[r.junk]) for r in truth]
    first = functional.tie_groups(rank_codes(queries, database, truth), truth)
    second = functional.tie_groups(rank_codes(queries, database[order], moved), moved)
    for metric, _ in METRICS.values():
        np.testing.assert_array_equal(metric(first), metric(second))


@settings(max_examples=50, deadline=None)
@given(generators)
def test_optimistic_expected_pessimistic_are_ordered(rng):
    queries, database, truth = random_search(rng)
    ranking = rank_codes(queries, database, truth, tied_before=True)
    rules = ("optimistic", "expected", "pessimistic", "stable")
    groups = [functional.tie_groups(ranking, truth, ties) for ties in rules]
    for metric, _ in METRICS.values():
        best, mean, worst, stable = (np.nan_to_num(metric(settled)) for settled in groups)
        assert np.all(best >= mean - 1e-12)
        assert np.all(mean >= worst - 1e-12)
        assert np.all((best >= stable - 1e-12) & (stable >= worst - 1e-12))


def test_tie_rules_are_checked():
    relevance = [Relevance([0])]
    ranking = rank_codes(np.zeros((1, 1), np.uint8), np.zeros((3, 1), np.uint8), relevance)
    with pytest.raises(InputError, match="ties=random"):
        functional.tie_groups(ranking, relevance, "random")
    with pytest.raises(InputError, match="tied_before"):
        functional.tie_groups(ranking, relevance, "stable")
    with pytest.raises(ValueError, match="same task"):
        functional.tie_groups(ranking, [Relevance([1])])


@pytest.mark.shared
def test_holidays_result_file_has_its_published_map(shared):
    """The official Holidays tool on its own example file: mAP 0.6892."""
    folder = shared / "data" / "ground_truth"
    names = sorted(
        line.split()[0] for line in (folder / "holidays_images.dat").read_text().splitlines() if line
    )
    number = {name: i for i, name in enumerate(names)}
    lists, truth = [], []
    for line in (folder / "peng_result.txt").read_text().splitlines():
        query, *pairs = line.split()
        ranks = sorted(zip(map(int, pairs[::2]), pairs[1::2], strict=True))
        lists.append([number[name] for _, name in ranks])
        group = [number[name] for name in names if name[:4] == query[:4] and name != query]
        truth.append(Relevance(group, [number[query]]))
    groups = functional.tie_groups(ranking_from_lists(lists, truth, len(names)), truth)
    assert len(names) == 1491
    assert groups.total.sum() == 991
    assert functional.average_precision(groups, "trapezoid").mean() == pytest.approx(0.6892, abs=5e-5)
