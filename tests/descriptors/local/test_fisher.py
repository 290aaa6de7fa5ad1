"""Fisher vectors against scikit-image, loops and finite differences."""

import numpy as np
import pytest
import torch
from skimage.feature import fisher_vector as skimage_fisher_vector
from sklearn.mixture import GaussianMixture

from niphash.descriptors.local.fisher import Fisher, Mixture, fisher_vector, log_densities, posteriors, powers
from niphash.errors import InputError

K, D = 5, 6


@pytest.fixture(scope="module")
def gmm() -> GaussianMixture:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 3, (K, D))
    sample = centres[rng.integers(0, K, 600)] + rng.normal(0, 0.7, (600, D))
    return GaussianMixture(K, covariance_type="diag", random_state=0).fit(sample)


def as_mixture(gmm: GaussianMixture) -> Mixture:
    return Mixture(*(torch.from_numpy(a) for a in (gmm.weights_, gmm.means_, gmm.covariances_)))


def locals_of(lengths: list[int], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (sum(lengths), D))


def test_equals_scikit_image(gmm: GaussianMixture):
    lengths = [30, 1, 200]
    x = locals_of(lengths)
    ours = fisher_vector(torch.from_numpy(x), lengths, as_mixture(gmm)).numpy()
    for image, own in enumerate(np.split(x, np.cumsum(lengths)[:-1])):
        theirs = skimage_fisher_vector(own, gmm)[K:]  # without the derivatives by the weights
        # scikit-image has the sign of the second order turned round
        expected = np.concatenate([theirs[: K * D], -theirs[K * D :]])
        np.testing.assert_allclose(ours[image], expected, atol=1e-10)


def test_float32_local_descriptors_lose_nothing_that_matters(gmm: GaussianMixture):
    encoder = Fisher(local_dim=D, gaussians=K)
    encoder.load_state_dict(as_mixture(gmm)._asdict())
    x = locals_of([80])
    ours = encoder(torch.from_numpy(x).float(), [80])[0].numpy()
    theirs = skimage_fisher_vector(x, gmm, improved=True)[K:]
    expected = np.concatenate([theirs[: K * D], -theirs[K * D :]])
    np.testing.assert_allclose(ours, expected / np.linalg.norm(expected), atol=1e-4)


def test_posteriors_equal_those_of_scikit_learn(gmm: GaussianMixture):
    x = locals_of([50])
    gamma = posteriors(powers(torch.from_numpy(x)), log_densities(as_mixture(gmm)))
    np.testing.assert_allclose(gamma, gmm.predict_proba(x), atol=1e-12)


def test_equals_the_formula_by_loops(gmm: GaussianMixture):
    x = locals_of([7])
    w, mu, sigma = gmm.weights_, gmm.means_, np.sqrt(gmm.covariances_)
    u, v = np.zeros((K, D)), np.zeros((K, D))
    for point in x:
        density = [
            w[k] * np.prod(np.exp(-0.5 * ((point - mu[k]) / sigma[k]) ** 2) / sigma[k]) for k in range(K)
        ]
        for k in range(K):
            gamma = density[k] / sum(density)
            u[k] += gamma * (point - mu[k]) / sigma[k] / (len(x) * np.sqrt(w[k]))
            v[k] += gamma * (((point - mu[k]) / sigma[k]) ** 2 - 1) / (len(x) * np.sqrt(2 * w[k]))
    tensors = torch.from_numpy(x), [7], as_mixture(gmm)
    np.testing.assert_allclose(fisher_vector(*tensors, "first")[0], u.ravel(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fisher_vector(*tensors, "second")[0], v.ravel(), rtol=1e-9, atol=1e-12)


def test_is_the_gradient_of_the_log_likelihood(gmm: GaussianMixture):
    """Sanchez et al., section 2: derivatives by means and deviations, scaled by the Fisher information."""
    x = torch.from_numpy(locals_of([40]))
    mixture = as_mixture(gmm)
    means, sigmas = mixture.means.clone().requires_grad_(), mixture.variances.sqrt().requires_grad_()
    logs = mixture.weights.log() + torch.distributions.Normal(means, sigmas).log_prob(x[:, None]).sum(-1)
    logs.logsumexp(1).mean().backward()
    w = mixture.weights[:, None].sqrt()
    expected = torch.cat(
        [(means.grad * sigmas / w).flatten(), (sigmas.grad * sigmas / (w * 2**0.5)).flatten()]
    )
    torch.testing.assert_close(fisher_vector(x, [40], mixture)[0], expected.detach(), rtol=1e-9, atol=1e-12)


def test_far_points_keep_finite_posteriors(gmm: GaussianMixture):
    far = powers(torch.full((1, D), 1e6, dtype=torch.float64))
    gamma = posteriors(far, log_densities(as_mixture(gmm)))
    assert torch.isfinite(gamma).all()
    torch.testing.assert_close(gamma.sum(), torch.tensor(1.0, dtype=torch.float64))


def test_an_image_does_not_depend_on_its_batch(gmm: GaussianMixture):
    encoder = Fisher(local_dim=D, gaussians=K)
    encoder.load_state_dict(as_mixture(gmm)._asdict())
    lengths = [50, 0, 3, 120]
    x = torch.from_numpy(locals_of(lengths)).float()
    together = encoder(x, lengths)
    for row, own in enumerate(x.split(lengths)):
        torch.testing.assert_close(encoder(own, [lengths[row]])[0], together[row], rtol=0, atol=1e-6)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))


def test_no_local_descriptors_give_the_blank_descriptor(gmm: GaussianMixture):
    encoder = Fisher(local_dim=D, gaussians=K)
    blank = encoder(torch.empty(0, D), [0])[0]
    torch.testing.assert_close(blank, torch.full((2 * K * D,), -((2 * K * D) ** -0.5)))


def test_fit_finds_the_mixture_and_repeats_itself():
    rng = np.random.default_rng(3)
    centres = np.array([[0, 0], [8, 3], [3, 8]], np.float32)
    sample = (centres[rng.integers(0, 3, 900)] + rng.normal(0, 0.5, (900, 2))).astype(np.float32)
    first, again = Fisher(local_dim=2, gaussians=3), Fisher(local_dim=2, gaussians=3)
    first.fit(sample, [900])
    again.fit(sample, [900])
    found = first.means[torch.from_numpy(np.lexsort(first.means.numpy().T))]
    torch.testing.assert_close(found, torch.tensor([[0, 0], [8, 3], [3, 8]]).float(), atol=0.15, rtol=0)
    torch.testing.assert_close(first.variances, torch.full((3, 2), 0.25), atol=0.08, rtol=0)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_sizes():
    assert Fisher().dim == 8192
    assert Fisher(gaussians=128, orders="first").dim == 8192
    assert Fisher(gaussians=256).dim == 32768


def test_too_few_local_descriptors_are_named():
    with pytest.raises(InputError, match=r"pooling.gaussians=64 needs at least 640 .* gave 100"):
        Fisher(local_dim=4).fit(np.zeros((100, 4), np.float32), [100])


def test_wrong_options_are_named():
    for options in ({"gaussians": 0}, {"orders": "third"}, {"alpha": 0}, {"local_dim": -1}):
        with pytest.raises(InputError, match=f"pooling.{next(iter(options))}"):
            Fisher(**options)
