"""Fisher vectors (Perronnin & Dance, CVPR 2007; Sanchez et al., IJCV 2013)."""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from niphash.descriptors.local.encoders import Encoder, check_enough, check_positive, finish, k_means
from niphash.errors import InputError

Orders = Literal["first", "second", "both"]


class Mixture(NamedTuple):
    """A mixture of K Gaussians with diagonal covariance.

    Attributes:
        weights: [K], sum 1.
        means: [K, D].
        variances: [K, D].
    """

    weights: Tensor
    means: Tensor
    variances: Tensor


def powers(x: Tensor) -> Tensor:
    """Return [T, 2 D], the components of [T, D] vectors and their squares."""
    return torch.cat([x, x.square()], 1)


def log_densities(mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Return [K] and [2 D, K]: log w_k N(x; mu_k, sigma_k) is linear in the powers of x, with these terms.

    What all Gaussians share is left out: it does not change their posteriors, but would cost them digits.
    """
    w, means, precisions = mixture.weights.double(), mixture.means.double(), 1 / mixture.variances.double()
    constants = w.log() + 0.5 * (precisions.log() - means.square() * precisions).sum(1)
    coefficients = torch.cat([means * precisions, -0.5 * precisions], 1)  # [K, 2 D]
    constants, coefficients = constants - constants.mean(), coefficients - coefficients.mean(0)
    dtype = mixture.means.dtype
    return constants.to(dtype), coefficients.to(dtype).T


def posteriors(xs: Tensor, linear: tuple[Tensor, Tensor]) -> Tensor:
    """Return gamma [T, K], the probability of each Gaussian given each local descriptor.

    gamma_t(k) = w_k N(x_t; mu_k, sigma_k) / sum_j w_j N(x_t; mu_j, sigma_j), by a softmax of logarithms, so
    that none under- or overflows (Sanchez et al., eq. 14).

    Args:
        xs: [T, 2 D], see :func:`powers`.
        linear: See :func:`log_densities`.
    """
    constants, coefficients = linear
    return torch.addmm(constants, xs, coefficients).softmax(1)


def fisher_vector(x: Tensor, lengths: list[int], mixture: Mixture, orders: Orders = "both") -> Tensor:
    """Return the Fisher vectors [B, K D] or, with both orders, [B, 2 K D], before power and L2.

    For an image of N local descriptors x_t and Gaussian k (Sanchez et al., eq. 17 and 18):

        u_k = sum_t gamma_t(k) (x_t - mu_k) / sigma_k                  / (N sqrt(w_k))
        v_k = sum_t gamma_t(k) [((x_t - mu_k) / sigma_k)^2 - 1]        / (N sqrt(2 w_k))

    first order: (u_1, ..., u_K); second: (v_1, ..., v_K); both: the one after the other. An image without
    local descriptors has the zero vector.

    Args:
        x: [T, D] local descriptors, image after image.
        lengths: Number of local descriptors of each of the B images; they sum to T.
        mixture: Of the dtype and on the device of ``x``.
        orders: Which derivatives.
    """
    # image by image: their powers stay in the cache between the two matrix products, and no image's
    # result depends on its neighbours
    linear = log_densities(mixture)
    zeroth, sums = [], []
    for own in x.split(lengths):
        xs = powers(own)
        gamma = posteriors(xs, linear)
        n = max(len(own), 1)
        zeroth.append(gamma.sum(0) / n)
        sums.append(gamma.T @ xs / n)
    s0 = torch.stack(zeroth)[..., None]  # [B, K, 1]
    s1, s2 = torch.stack(sums).chunk(2, -1)  # [B, K, D] each
    w, mu, variance = mixture.weights[:, None], mixture.means, mixture.variances
    parts = []
    if orders != "second":
        parts.append((s1 - s0 * mu) / (w * variance).sqrt())
    if orders != "first":
        parts.append((s2 - 2 * s1 * mu + s0 * (mu.square() - variance)) / ((2 * w).sqrt() * variance))
    return torch.cat([part.flatten(1) for part in parts], 1)


class Fisher(Encoder):
    """Fisher vector with signed power and L2.

    Args:
        local_dim: PCA components of a local descriptor.
        gaussians: Number K of Gaussians.
        orders: ``first`` (K x local_dim components), ``second``, or ``both`` (twice as many).
        alpha: Exponent of the signed power normalisation.
        iterations: Upper bound on rounds of expectation maximisation.
        seed: Of the k-means that the mixture starts from.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def __init__(
        self,
        local_dim: int = 64,
        gaussians: int = 64,
        orders: Orders = "both",
        alpha: float = 0.5,
        iterations: int = 30,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in {"local_dim": local_dim, "gaussians": gaussians, "alpha": alpha}.items():
            check_positive(f"pooling.{name}", value)
        if orders not in ("first", "second", "both"):
            raise InputError(f"pooling.orders={orders}: choose first, second or both")
        self.local_dim, self.gaussians, self.orders, self.alpha = (
            int(local_dim),
            int(gaussians),
            orders,
            float(alpha),
        )
        self.iterations, self.seed = int(iterations), int(seed)
        self.dim = self.local_dim * self.gaussians * (2 if orders == "both" else 1)
        self.register_buffer("weights", torch.full((self.gaussians,), 1 / self.gaussians))
        self.register_buffer("means", torch.zeros(self.gaussians, self.local_dim))
        self.register_buffer("variances", torch.ones(self.gaussians, self.local_dim))

    def fit(self, sample: np.ndarray, lengths: list[int]) -> None:
        """Fit the mixture to float32 [S, local_dim] by expectation maximisation, from faiss k-means.

        Raises:
            InputError: fewer local descriptors than ten times the Gaussians.
        """
        check_enough(len(sample), self.gaussians, "pooling.gaussians", each=10)
        mixture = fit_mixture(sample, self.gaussians, self.iterations, self.seed)
        self.load_state_dict(mixture._asdict())

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        """Return float32 [B, dim] of local descriptors [T, local_dim], ``lengths`` of them an image."""
        mixture = Mixture(self.weights, self.means, self.variances)
        return finish(fisher_vector(x, lengths, mixture, self.orders), lengths, self.alpha)

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that determine the output."""
        return {"encoder": "fisher", "orders": self.orders, "alpha": self.alpha}


def fit_mixture(sample: np.ndarray, gaussians: int, iterations: int, seed: int) -> Mixture:
    """Return the mixture (float32) that scikit-learn fits to float32 [S, D] vectors.

    It starts from one Gaussian a k-means cluster, which saves most of the rounds and makes it repeatable.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    centroids = k_means(sample, gaussians, seed, "pooling.gaussians")
    floor = 1e-4 * float(sample.var(0).mean())  # keeps a Gaussian from collapsing onto repeated descriptors
    mixture = GaussianMixture(
        gaussians,
        covariance_type="diag",
        tol=1e-3,
        reg_covar=floor,
        max_iter=iterations,
        means_init=centroids,
        init_params="random_from_data",
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the bound on rounds is meant
        mixture.fit(sample)
    fitted = (mixture.weights_, mixture.means_, mixture.covariances_)
    return Mixture(*(torch.from_numpy(np.asarray(value, np.float32)) for value in fitted))
