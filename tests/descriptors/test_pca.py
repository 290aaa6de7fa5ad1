"""Principal axes against an eigendecomposition."""

import numpy as np
import pytest
import torch

from niphash.descriptors.pca import PCA, fit_pca
from niphash.errors import InputError


@pytest.mark.parametrize("n", [200, 8])
def test_equals_the_eigenvectors_of_the_covariance(n: int):
    x = (np.random.default_rng(0).normal(size=(n, 12)) * np.arange(1, 13)).astype(np.float32)
    principal = fit_pca(x, 4, "dim")
    values, vectors = np.linalg.eigh(np.cov(x.T))
    np.testing.assert_allclose(principal.variances, values[::-1][:4], rtol=1e-3)
    agreement = np.abs((principal.axes.numpy() * vectors[:, ::-1][:, :4].T).sum(1))
    np.testing.assert_allclose(agreement, 1, atol=1e-3)
    np.testing.assert_allclose(principal.mean, x.mean(0), atol=1e-4)


def test_projection():
    x = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    pca = PCA(6, 3, "dim")
    pca.fit(x)
    projected = pca(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(projected, (x - x.mean(0)) @ pca.axes.numpy().T, atol=1e-5)
    np.testing.assert_allclose(np.cov(projected.T), np.diag(np.cov(projected.T).diagonal()), atol=1e-5)


def test_impossible_sizes_are_named():
    with pytest.raises(InputError, match=r"whitening.dim=7: give 1 to 6"):
        fit_pca(np.zeros((50, 6), np.float32), 7, "whitening.dim")
    with pytest.raises(InputError, match=r"whitening.dim=5 needs at least 6 .* gave 4"):
        fit_pca(np.zeros((4, 6), np.float32), 5, "whitening.dim")
    with pytest.raises(InputError, match=r"pooling.local_dim=200: give 1 to 128"):
        PCA(128, 200, "pooling.local_dim")
