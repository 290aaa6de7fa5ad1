from itertools import pairwise

import numpy as np
import pytest

from niphash.hashing.closed_form.itq import ITQ, itq_rotation
from niphash.training.fit_data import FitData


@pytest.fixture
def descriptors() -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.standard_normal((300, 30)) * np.linspace(3, 0.1, 30)).astype(np.float32)


def quantisation_error(values: np.ndarray) -> float:
    return float(((values - np.where(values >= 0, 1, -1)) ** 2).sum())


def test_projection_is_an_orthogonal_basis_of_the_principal_subspace(descriptors):
    hasher = ITQ(8)
    hasher.fit(FitData(descriptors))
    projection = hasher.state_dict()["projection"].double().numpy()
    np.testing.assert_allclose(projection.T @ projection, np.eye(8), atol=1e-5)
    centred = (descriptors - descriptors.mean(axis=0)).astype(np.float64)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:8].T
    np.testing.assert_allclose(axes @ (axes.T @ projection), projection, atol=1e-4)


def test_quantisation_error_falls_with_every_alternation(descriptors):
    errors = [
        quantisation_error(descriptors[:, :8] @ itq_rotation(descriptors[:, :8], iterations, seed=0))
        for iterations in range(12)
    ]
    assert all(after < before * (1 + 1e-6) for before, after in pairwise(errors))
    assert errors[-1] < errors[0]


def test_final_rotation_is_the_best_of_the_plane():
    """In two dimensions every rotation and reflection can be tried."""
    rng = np.random.default_rng(3)
    square = rng.choice([-1.0, 1.0], (200, 2)) + 0.1 * rng.standard_normal((200, 2))
    turn = np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
    components = (square @ turn).astype(np.float32)
    angles = np.linspace(0, 2 * np.pi, 2000)
    best = min(
        quantisation_error(components @ np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]))
        for a in angles
    )
    found = quantisation_error(components @ itq_rotation(components, 50, seed=0))
    assert found == pytest.approx(best, rel=1e-3)
