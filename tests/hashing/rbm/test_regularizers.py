import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from niphash.hashing.rbm.regularizers import (
    no_regularizer,
    rbmh,
    regularizer,
    sparsity,
    uniform_ranks,
    uniform_targets,
)


def scores_of(kind: str, batch: int, units: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=random)

    return {
        "independent": normal(batch, units),
        "correlated": normal(batch, 4) @ normal(4, units) + 0.1 * normal(batch, units),
        "offsets": 3 * normal(batch, 1) + 3 * normal(1, units) + normal(batch, units),
        "rank one": normal(batch, 1) @ normal(1, units),
        "all equal": torch.zeros(batch, units),
        "two values": normal(batch, units).sign(),
    }[kind]


KINDS = ("independent", "correlated", "offsets", "rank one", "all equal", "two values")


def worst_margin(targets: torch.Tensor, axis: int) -> float:
    """Largest distance of a sorted target from the uniform quantile (i + 1/2) / n along ``axis``."""
    ordered = np.sort(targets.numpy(), axis=axis)
    n = targets.shape[axis]
    quantiles = np.expand_dims((np.arange(n) + 0.5) / n, 1 - axis)
    return float(np.abs(ordered - quantiles).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("batch", "units"), [(100, 64), (256, 64), (64, 64), (20, 64), (100, 8), (7, 5), (2, 8)]
)
def test_targets_are_uniform_over_the_batch_and_over_the_units(kind, batch, units):
    targets = uniform_targets(scores_of(kind, batch, units))
    assert worst_margin(targets, axis=0) <= 1 / batch + 1e-6
    assert worst_margin(targets, axis=1) <= 1 / units + 1e-6
    assert targets.min() > 0
    assert targets.max() < 1


def test_targets_of_a_wide_layer_are_uniform():
    targets = uniform_targets(scores_of("correlated", 50, 1024))
    assert worst_margin(targets, axis=0) <= 1 / 50 + 1e-6
    assert worst_margin(targets, axis=1) <= 1 / 1024 + 1e-6


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 1000))
def test_margins_hold_for_any_shape(batch, units, seed):
    targets = uniform_targets(scores_of("correlated", batch, units, seed))
    assert worst_margin(targets, axis=0) <= 1 / batch + 1e-6
    assert worst_margin(targets, axis=1) <= 1 / units + 1e-6


def test_targets_follow_the_scores():
    scores = scores_of("independent", 100, 64)
    targets = uniform_targets(scores)
    assert torch.corrcoef(torch.stack([scores.flatten(), targets.flatten()]))[0, 1] > 0.9
    assert torch.equal(targets, uniform_targets(scores))


def test_sparsity_is_the_formula_and_is_least_at_p():
    logits = scores_of("independent", 6, 3).double()
    p = 0.2
    expected = 0.0
    for j in range(3):
        q = sum(1 / (1 + math.exp(-logits[a, j])) for a in range(6)) / 6
        expected -= p * math.log(q) + (1 - p) * math.log(1 - q)
    assert sparsity(logits, p).item() == pytest.approx(expected, rel=1e-6)
    at_p = torch.full((4, 3), math.log(p / (1 - p)))
    assert all(sparsity(at_p + shift, p) > sparsity(at_p, p) for shift in (-0.3, 0.3))


def test_sparsity_draws_back_units_that_are_always_on_or_off():
    logits = torch.tensor([[200.0, -200.0]]).expand(4, 2).clone().requires_grad_(True)
    penalty = sparsity(logits, 0.3)
    (gradient,) = torch.autograd.grad(penalty, logits)
    assert penalty.item() == pytest.approx(0.7 * 200 + 0.3 * 200)
    assert torch.allclose(gradient, torch.tensor([0.7, -0.3]).expand(4, 2) / 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, where autocast refuses some losses")
@pytest.mark.parametrize("penalty", [lambda z: sparsity(z, 0.3), rbmh])
def test_penalties_are_computed_under_autocast(penalty):
    logits = scores_of("independent", 6, 3)
    with torch.autocast("cuda", torch.bfloat16):
        assert penalty(logits.cuda()).item() == pytest.approx(penalty(logits).item(), rel=1e-5)


def test_rbmh_is_the_formula():
    logits = scores_of("independent", 6, 4)
    targets = uniform_targets(logits).numpy()
    q = 1 / (1 + np.exp(-logits.numpy()))
    expected = -np.mean(np.sum(targets * np.log(q) + (1 - targets) * np.log(1 - q), axis=1))
    assert rbmh(logits).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("penalty", [lambda z: sparsity(z, 0.3), rbmh])
def test_gradient_agrees_with_finite_differences(penalty):
    logits = scores_of("independent", 5, 4).requires_grad_(True)
    (gradient,) = torch.autograd.grad(penalty(logits), logits)
    step = 1e-2
    for a in range(5):
        for j in range(4):
            shift = torch.zeros(5, 4)
            shift[a, j] = step
            with torch.no_grad():
                slope = (penalty(logits + shift) - penalty(logits - shift)) / (2 * step)
            assert slope.item() == pytest.approx(gradient[a, j].item(), abs=2e-3)


def test_rbmh_gradient_is_activation_minus_target():
    logits = scores_of("correlated", 20, 8).requires_grad_(True)
    (gradient,) = torch.autograd.grad(rbmh(logits), logits)
    expected = (torch.sigmoid(logits) - uniform_targets(logits)) / 20
    assert torch.allclose(gradient, expected, atol=1e-6)


def test_descending_rbmh_balances_bits_and_images():
    logits = scores_of("offsets", 64, 32).requires_grad_(True)
    optimizer = torch.optim.SGD([logits], lr=32.0)
    for _ in range(300):
        optimizer.zero_grad()
        rbmh(logits).backward()
        optimizer.step()
    on = (logits > 0).float()
    assert (on.mean(0) - 0.5).abs().max() < 0.05
    assert (on.mean(1) - 0.5).abs().max() < 0.05


def test_choice_by_name():
    logits = scores_of("independent", 6, 4)
    assert regularizer("none")(logits) == no_regularizer(logits) == 0
    assert regularizer("sparsity", 0.1)(logits) == sparsity(logits, 0.1)
    assert regularizer("rbmh")(logits) == rbmh(logits)


@pytest.mark.parametrize("dim", [0, 1])
def test_ranks_are_those_of_a_stable_sort(dim: int):
    generator = torch.Generator().manual_seed(5)
    scores = torch.randint(-4, 5, (30, 17), generator=generator) / 3.0  # many ties
    scores[0, :4] = torch.tensor([-0.0, 0.0, 1e30, -1e30])
    order = scores.argsort(dim=dim, stable=True)
    n = scores.shape[dim]
    ranks = (uniform_ranks(scores, dim) * n - 0.5).round().long()
    assert torch.equal(ranks.gather(dim, order), torch.arange(n).view(-1, *[1] * (1 - dim)).expand_as(order))
