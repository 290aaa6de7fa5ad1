import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp

from niphash.hashing.rbm.rbm import RBM, contrastive_divergence, reconstruction_error, sample_bernoulli
from niphash.hashing.rbm.regularizers import no_regularizer
from niphash.hashing.rbm.stage import RBMStage, RBMTraining
from niphash.training.fit_data import FitData
from niphash.training.fitting import fit_module
from niphash.training.streams import DescriptorBatches

V, H = 5, 3
KINDS = ("binary", "gaussian")


def random_rbm(kind: str = "binary", std: float = 0.7) -> RBM:
    rbm = RBM(V, H, kind).double()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.normal_(0, std, generator=random)
    return rbm


def states(units: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=units)), dtype=torch.float64)


def log_partition(rbm: RBM) -> torch.Tensor:
    """log Z by enumeration: over all visible states, or, Gaussian, over all hidden ones."""
    if rbm.visible_units == "binary":
        return torch.logsumexp(-rbm.free_energy(states(V)), 0)
    h = states(H)
    mean = h @ rbm.weight + rbm.visible_bias
    exponent = h @ rbm.hidden_bias + 0.5 * (mean.square().sum(1) - rbm.visible_bias.square().sum())
    return torch.logsumexp(exponent, 0) + 0.5 * V * math.log(2 * math.pi)


def log_likelihood(rbm: RBM, data: torch.Tensor) -> torch.Tensor:
    return -rbm.free_energy(data).mean() - log_partition(rbm)


def some_data(kind: str) -> torch.Tensor:
    random = torch.Generator().manual_seed(2)
    if kind == "gaussian":
        return torch.randn((40, V), generator=random, dtype=torch.float64) * 1.5 + 0.3
    base = torch.rand((3, V), generator=random) < 0.5
    noise = torch.rand((40, V), generator=random) < 0.1
    return (base[torch.arange(40) % 3] ^ noise).double()


@pytest.mark.parametrize("kind", KINDS)
def test_energy_is_the_formula(kind):
    rbm, v, h = random_rbm(kind), some_data(kind)[:4], states(H)[[0, 3, 5, 7]]
    w, b, c = (p.detach().numpy() for p in (rbm.weight, rbm.hidden_bias, rbm.visible_bias))
    for row in range(4):
        expected = 0.0
        for j in range(H):
            expected -= b[j] * h[row, j].item()
            for i in range(V):
                expected -= h[row, j].item() * w[j, i] * v[row, i].item()
        for i in range(V):
            x = v[row, i].item()
            expected += (x - c[i]) ** 2 / 2 if kind == "gaussian" else -c[i] * x
        assert rbm.energy(v, h)[row].item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_free_energy_sums_over_the_hidden_states(kind):
    rbm, v = random_rbm(kind), some_data(kind)[:6]
    every_h = states(H)
    for row in v:
        energies = rbm.energy(row.expand(len(every_h), V), every_h).detach().numpy()
        assert rbm.free_energy(row[None]).item() == pytest.approx(-logsumexp(-energies))


@pytest.mark.parametrize("kind", KINDS)
def test_conditionals_follow_from_the_energy(kind):
    rbm, v = random_rbm(kind), some_data(kind)[:3]
    every_h = states(H)
    for row in v:
        weight = torch.softmax(-rbm.energy(row.expand(len(every_h), V), every_h), 0)
        assert torch.allclose(rbm(row[None])[0], weight @ every_h)
    h = every_h[5:6]
    if kind == "binary":
        every_v = states(V)
        weight = torch.softmax(-rbm.energy(every_v, h.expand(len(every_v), H)), 0)
        assert torch.allclose(rbm.visible_mean(h)[0], weight @ every_v)
    else:  # the mode of a Gaussian is its mean
        v = rbm.visible_mean(h).detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(rbm.energy(v, h).sum(), v)
        assert slope.abs().max() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_conditional_mean(kind):
    rbm, random = random_rbm(kind), torch.Generator().manual_seed(0)
    h = states(H)[6:7].expand(40_000, H)
    sample = rbm.sample_visible(h, random)
    assert torch.allclose(sample.mean(0), rbm.visible_mean(h)[0], atol=0.03)
    if kind == "gaussian":
        assert torch.allclose(sample.std(0), torch.ones(V, dtype=torch.float64), atol=0.03)
    assert sample_bernoulli(torch.tensor([0.0, 1.0]), random).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_long_run_divergence_is_that_of_the_exact_likelihood(kind):
    rbm, data = random_rbm(kind, std=0.4), some_data(kind)
    exact = torch.autograd.grad(-log_likelihood(rbm, data), list(rbm.parameters()))
    start = data.repeat(1000, 1)  # 40 000 chains
    with torch.no_grad():
        v_model = rbm.gibbs(rbm(start), 30, torch.Generator().manual_seed(3), mean_field=False)
    loss, _ = contrastive_divergence(rbm, data, v_model)
    estimate = torch.autograd.grad(loss, list(rbm.parameters()))
    for ours, true in zip(estimate, exact, strict=True):
        assert (ours - true).norm() < 0.03 * torch.cat([t.flatten() for t in exact]).norm()


def test_gradient_of_cd_1_is_the_difference_of_correlations():
    rbm, data = random_rbm(), some_data("binary")
    v_model = rbm.gibbs(rbm(data), 1, torch.Generator().manual_seed(3))
    loss, _ = contrastive_divergence(rbm, data, v_model)
    w, b, c = torch.autograd.grad(loss, list(rbm.parameters()))
    n = len(data)
    weight, bias = rbm.weight.detach().numpy(), rbm.hidden_bias.detach().numpy()
    h_data, h_model = (expit(v.numpy() @ weight.T + bias) for v in (data, v_model))
    assert np.allclose(w.numpy(), (h_model.T @ v_model.numpy() - h_data.T @ data.numpy()) / n)
    assert np.allclose(b.numpy(), (h_model - h_data).mean(0))
    assert np.allclose(c.numpy(), (v_model - data).mean(0).numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_chain_is_a_function_of_the_generator(kind):
    rbm, data = random_rbm(kind), some_data(kind)
    first, second, other = (
        rbm.gibbs(rbm(data), 3, torch.Generator().manual_seed(s), mean_field=False) for s in (5, 5, 6)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        (RBMTraining(learning_rate=0.01), 100),
        (RBMTraining(learning_rate=0.01, cd_steps=5, mean_field=False), 100),
        (RBMTraining(learning_rate=0.001, persistent=True, mean_field=False), 200),  # oscillates at 0.005
    ],
    ids=["cd1 mean field", "cd5", "pcd"],
)
def test_the_exact_likelihood_of_gaussian_units_rises_above_that_of_one_gaussian(options, epochs):
    random = np.random.default_rng(0)
    centres = 1.5 * np.array([[1, 1, 1, -1, -1], [-1, -1, 1, 1, 1], [1, -1, -1, -1, 1]])
    x = (centres[np.arange(240) % 3] + random.standard_normal((240, V))).astype(np.float32)
    data = torch.from_numpy(x).double()
    values = []
    for count in (1, 20, epochs):
        rbm = RBM(V, H, "gaussian")
        rbm.initialise(0.1, torch.Generator().manual_seed(0))
        stage = RBMStage("rbm", rbm, no_regularizer, options, seed=1, chains=40)
        fit_module(stage, DescriptorBatches(FitData(x), 40, seed=2), None, "rbm", count)
        values.append(log_likelihood(rbm.double(), data).item())
    one = torch.distributions.Normal(data.mean(0), 1.0).log_prob(data).sum(1).mean().item()
    assert values[0] < values[1] < values[2]
    assert values[2] > one + 3


def test_reconstruction_error_is_the_mean_squared_difference():
    rbm, data = random_rbm(), some_data("binary")
    w, b, c = (p.detach().numpy() for p in (rbm.weight, rbm.hidden_bias, rbm.visible_bias))
    back = expit(expit(data.numpy() @ w.T + b) @ w + c)
    assert reconstruction_error(rbm, data).item() == pytest.approx(np.mean((back - data.numpy()) ** 2))


def test_initial_weights_have_the_deviation_asked_for():
    rbm = RBM(200, 300)
    rbm.initialise(0.01, torch.Generator().manual_seed(0))
    assert rbm.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert rbm.hidden_bias.abs().max() == rbm.visible_bias.abs().max() == 0
