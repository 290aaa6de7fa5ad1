"""Pair losses against naive loops and autograd, and the sampler against its definition."""

import numpy as np
import pytest
import torch

from niphash.errors import InputError
from niphash.hashing.pairs import (
    PairSampler,
    dual_margin_loss,
    median_margin,
    single_margin_loss,
    squared_distances,
)


@pytest.fixture
def pairs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(30, 6, generator=generator, dtype=torch.float64)
    second = torch.rand(30, 6, generator=generator, dtype=torch.float64)
    return first, second, torch.arange(30) < 10


def naive_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))


def test_losses_equal_naive_loops(pairs):
    first, second, matching = pairs
    distances = squared_distances(first, second)
    single = dual = 0.0
    for a, b, y in zip(first, second, matching, strict=True):
        d = naive_distance(a, b)
        single += d if y else max(1.1 - d, 0.0)
        dual += max(d - 0.7, 0.0) if y else max(1.3 - d, 0.0)
    assert single_margin_loss(distances, matching, 1.1).item() == pytest.approx(single / 30, rel=1e-12)
    assert dual_margin_loss(distances, matching, 0.7, 1.3).item() == pytest.approx(dual / 30, rel=1e-12)


def test_gradients_are_those_of_finite_differences(pairs):
    first, second, matching = pairs
    first.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda a: dual_margin_loss(squared_distances(a, second), matching, 0.7, 1.3), first
    )
    assert torch.autograd.gradcheck(
        lambda a: single_margin_loss(squared_distances(a, second), matching, 1.1), first
    )


def test_only_the_dual_margin_leaves_near_matches_alone():
    distances = torch.tensor([0.2, 0.5], requires_grad=True)
    matching = torch.tensor([True, True])
    dual_margin_loss(distances, matching, 1.0, 1.0).backward()
    assert distances.grad.tolist() == [0.0, 0.0]
    single = torch.autograd.grad(single_margin_loss(distances, matching, 1.0), distances)[0]
    assert (single > 0).all()


def test_margin_is_the_mean_of_two_medians():
    distances = torch.tensor([1.0, 9.0, 2.0, 10.0, 20.0, 30.0])
    matching = torch.tensor([True, True, True, False, False, False])
    assert median_margin(distances, matching) == (2.0 + 20.0) / 2


def test_every_matching_pair_brings_two_non_matching_ones():
    pairs = np.array([[0, 1], [1, 2], [3, 4], [5, 6]])
    sampler = PairSampler(pairs, count=9)  # things {0 1 2}, {3 4}, {5 6}, {7}, {8}
    thing = [0, 0, 0, 1, 1, 2, 2, 3, 4]
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        rows, matching = sampler.draw(33, generator)
        assert rows.shape == (99, 2)
        assert matching.sum() == 33
        for (a, b), y in zip(rows, matching, strict=True):
            assert (thing[a] == thing[b]) == y
            if y:
                assert [a, b] in pairs.tolist()
            else:
                seen.add(int(b))
        np.testing.assert_array_equal(rows[~matching][:, 0], rows[matching].reshape(-1))
    assert seen == set(range(9))


def test_one_generator_gives_one_draw():
    sampler = PairSampler(np.array([[0, 1], [2, 3]]), count=4)
    draws = [sampler.draw(5, np.random.default_rng(7))[0] for _ in range(2)]
    np.testing.assert_array_equal(*draws)


def test_one_class_is_refused():
    with pytest.raises(InputError, match="one class"):
        PairSampler(np.array([[0, 1], [1, 2]]), count=3)
