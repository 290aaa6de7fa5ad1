"""Whitening learned from views, against naive loops and NumPy's linear algebra."""

import numpy as np
import pytest

from niphash.errors import InputError
from niphash.training import view_whitening as vw
from niphash.training.fit_data import FitData


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("shape", [(12, 40), (60, 9)])
def test_principal_span_is_that_of_the_singular_vectors(rng, shape):
    centred = rng.standard_normal(shape).astype(np.float32)
    centred -= centred.mean(axis=0)
    axes = vw.principal_span(centred, 5)
    expected = np.linalg.svd(centred.astype(np.float64), full_matrices=False)[2][:5].T
    np.testing.assert_allclose(np.abs(np.sum(axes * expected, axis=0)), 1, atol=1e-4)
    np.testing.assert_allclose(axes.T @ axes, np.eye(5), atol=1e-4)


def test_principal_span_leaves_out_what_does_not_vary(rng):
    low_rank = rng.standard_normal((30, 4)) @ rng.standard_normal((4, 50))
    assert vw.principal_span((low_rank - low_rank.mean(axis=0)).astype(np.float32), 20).shape == (50, 4)


def test_sample_takes_whole_groups_within_the_limit(rng):
    groups = rng.permutation(np.repeat(np.arange(20), 3))
    rows = vw.sample_groups(groups, 31, seed=0)
    assert len(rows) == 30
    assert all(np.isin(groups[groups == g], groups[rows]).all() for g in np.unique(groups[rows]))
    assert len(np.unique(groups[rows])) == 10
    np.testing.assert_array_equal(vw.sample_groups(groups, 60, seed=0), np.arange(60))


def test_group_means_by_loop(rng):
    points, groups = rng.standard_normal((10, 3)), np.array([0, 2, 1, 2, 0, 1, 1, 2, 2, 0])
    expected = [points[groups == g].mean(axis=0) for g in range(3)]
    np.testing.assert_allclose(vw.group_means(points, groups), expected)


def test_mutual_neighbours_by_loop(rng):
    points = rng.standard_normal((40, 6))
    points[20:] = points[:20] + 0.4 * points[rng.permutation(20)]
    cosine = np.empty((40, 40))
    for i in range(40):
        for j in range(40):
            cosine[i, j] = points[i] @ points[j] / np.linalg.norm(points[i]) / np.linalg.norm(points[j])
    above = cosine[np.triu_indices(40, 1)]
    least = np.median(above) + 1.0 * 1.4826 * np.median(np.abs(above - np.median(above)))
    ranked = [[j for j in np.argsort(-cosine[i]) if j != i][:3] for i in range(40)]
    expected = {
        (i, j)
        for i in range(40)
        for j in range(i + 1, 40)
        if j in ranked[i] and i in ranked[j] and cosine[i, j] > least
    }
    found = {tuple(pair) for pair in vw.mutual_neighbours(points, 3, significance=1.0).tolist()}
    assert found == expected
    assert len(found) > 5
    assert len(vw.mutual_neighbours(points, 0, significance=1.0)) == 0


def test_whitening_axes_solve_the_generalised_problem(rng):
    a, b = rng.standard_normal((50, 7)), rng.standard_normal((30, 7)) * np.arange(1, 8)
    total, within = vw.scatter(a), vw.scatter(b)
    axes = vw.whitening_axes(total, within, 0.3, 4)
    shrunk = 0.7 * within + 0.3 * np.eye(7) / 7
    np.testing.assert_allclose(axes.T @ shrunk @ axes, np.eye(4), atol=1e-9)
    ratios = np.linalg.eigvals(np.linalg.solve(shrunk, total)).real
    np.testing.assert_allclose(np.diag(axes.T @ total @ axes), np.sort(ratios)[::-1][:4])


def test_oriented_axes_do_not_depend_on_the_signs_that_they_came_with(rng):
    axes = np.linalg.qr(rng.standard_normal((30, 8)))[0]
    flipped = axes * rng.choice([-1, 1], 8)
    np.testing.assert_array_equal(vw.oriented(flipped), vw.oriented(axes))
    assert (vw.oriented(axes).max(axis=0) == np.abs(axes).max(axis=0)).all()


OPTIONS = {"rank": 100, "shrinkage": 1e-9, "neighbours": 0, "significance": 0.0, "limit": 1000, "seed": 0}


def photos_and_views(rng: np.random.Generator, count: int = 60, dim: int = 9) -> FitData:
    """Return ``count`` photos, then two views of each, which vary more along the later dimensions."""
    photos = rng.standard_normal((count, dim)) + 4
    views = [photos + 0.2 * np.arange(1, dim + 1) * rng.standard_normal((count, dim)) for _ in range(2)]
    pairs = np.stack([np.tile(np.arange(count), 2), np.arange(count, 3 * count)], axis=1)
    return FitData(np.concatenate([photos, *views]).astype(np.float32), pairs)


def test_views_vary_by_one_along_every_axis_and_photos_most_along_the_first(rng):
    data = photos_and_views(rng)
    found = vw.fit_view_whitening(data, dim=9, **OPTIONS)
    within = np.zeros((9, 9))
    for photo in range(60):
        shots = data.rows[[photo, photo + 60, photo + 120]].astype(np.float64)
        for shot in shots:
            within += np.outer(shot - shots.mean(0), shot - shots.mean(0))
    within /= np.trace(within)
    np.testing.assert_allclose(found.axes.T @ within @ found.axes, np.eye(9), atol=1e-3)
    projected = (data.rows - data.rows.mean(0)) @ found.axes
    spread = (projected**2).mean(0)
    assert (np.diff(spread) < 0).all()
    correlation = projected.T @ projected / len(projected) / np.sqrt(np.outer(spread, spread))
    np.testing.assert_allclose(correlation, np.eye(9), atol=1e-3)
    assert (found.groups, found.neighbours) == (60, 0)


def test_fewer_axes_are_the_first_ones_and_float16_will_do(rng):
    data = photos_and_views(rng)
    whole, part = (vw.fit_view_whitening(data, dim=dim, **OPTIONS).axes for dim in (9, 4))
    np.testing.assert_allclose(part, whole[:, :4], atol=1e-3)
    half = FitData(data.rows.astype(np.float16), data.pairs)
    np.testing.assert_allclose(vw.fit_view_whitening(half, dim=4, **OPTIONS).axes, part, atol=0.2)


def test_one_group_has_no_neighbours(rng):
    data = FitData(rng.standard_normal((4, 5)).astype(np.float32), np.array([[0, 1], [1, 2], [2, 3]]))
    found = vw.fit_view_whitening(data, dim=5, **OPTIONS | {"neighbours": 8})
    assert found.axes.shape == (5, 3)
    assert (found.groups, found.neighbours) == (1, 0)


@pytest.mark.parametrize(
    ("rows", "pairs", "words"),
    [
        (np.ones((3, 5)), [[0, 1]], "3 fit descriptors are too few .* give 4 or more"),
        (np.ones((6, 5)), [[0, 1]], "all fit descriptors are alike"),
        (np.eye(6), None, "no matching pairs"),
        (np.where(np.eye(6) > 0, np.nan, 0), [[0, 1]], "NaN"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(rows, pairs, words):
    data = FitData(rows.astype(np.float32), None if pairs is None else np.array(pairs))
    with pytest.raises(InputError, match=words):
        vw.fit_view_whitening(data, dim=2, **OPTIONS)
