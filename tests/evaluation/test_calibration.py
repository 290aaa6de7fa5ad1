"""Calibrations of pairs whose true probability is known."""

import json

import numpy as np
import pytest
import torch
from scipy import stats
from torchmetrics.classification import BinaryCalibrationError

from niphash.errors import InputError
from niphash.evaluation.calibration import Calibration, fit_calibration, reliability

#: Hamming distances of 64 bits: of matching pairs each bit differs with chance 0.25, of strangers with 0.5.
MATCHING, STRANGERS = stats.binom(64, 0.25), stats.binom(64, 0.5)


def truth(distances: np.ndarray, prior: float) -> np.ndarray:
    """Bayes' rule."""
    same, other = prior * MATCHING.pmf(distances), (1 - prior) * STRANGERS.pmf(distances)
    return same / (same + other)


def fitted(prior: float, pairs: int = 20_000) -> Calibration:
    rng = np.random.default_rng(0)
    drawn = (kind.rvs(size, random_state=rng) for kind, size in ((MATCHING, pairs), (STRANGERS, 3 * pairs)))
    return fit_calibration(*drawn, prior=prior)


@pytest.mark.parametrize("prior", [0.5, 0.02])
def test_probabilities_are_those_of_bayes_whatever_the_numbers_of_pairs(prior):
    distances = np.arange(65)
    found, expected = fitted(prior).probability(distances), truth(distances, prior)
    weights = prior * MATCHING.pmf(distances) + (1 - prior) * STRANGERS.pmf(distances)
    assert np.all(np.diff(found) <= 0)
    assert np.average(np.abs(found - expected), weights=weights) < 0.005
    assert found[(expected > 0.2) & (expected < 0.8)] == pytest.approx(
        expected[(expected > 0.2) & (expected < 0.8)], abs=0.1
    )


@pytest.mark.parametrize("prior", [0.5, 0.1])
def test_fresh_pairs_are_as_likely_as_said(prior):
    rng = np.random.default_rng(1)
    same = rng.random(50_000) < prior
    distances = np.where(
        same, MATCHING.rvs(50_000, random_state=rng), STRANGERS.rvs(50_000, random_state=rng)
    )
    good = reliability(fitted(prior).probability(distances), same)
    assert good.expected_error < 0.01
    overconfident = reliability(fitted(0.9).probability(distances), same)
    assert overconfident.expected_error > 2 * good.expected_error


def test_another_prior_is_what_fitting_with_it_gives():
    distances = np.arange(65)
    moved, direct = fitted(0.5).with_prior(0.05), fitted(0.05)
    np.testing.assert_allclose(moved.probability(distances), direct.probability(distances), atol=0.02)
    back = moved.with_prior(0.5)
    np.testing.assert_allclose(back.probabilities, fitted(0.5).probabilities, rtol=1e-9)


def test_nothing_is_certain_that_was_seen_a_few_times():
    calibration = fit_calibration([0, 0, 1, 1], [10, 11, 12, 12])
    assert calibration.probability(0) == calibration.probability(1) == pytest.approx(4 / 5)
    assert calibration.probability(12) == calibration.probability(99) == pytest.approx(1 / 5)
    many = fit_calibration(np.zeros(999), np.full(999, 10))
    assert many.probability(0) == pytest.approx(0.999)


def test_descriptors_far_apart_in_scale_and_equal_distances_are_taken():
    rng = np.random.default_rng(2)
    near, far = rng.normal(0.3, 0.1, 500), rng.normal(0.9, 0.1, 500)
    scaled = fit_calibration(near * 1e6, far * 1e6)
    assert scaled.probability(0.3e6) == pytest.approx(fit_calibration(near, far).probability(0.3))
    level = fit_calibration([5, 5], [5, 5, 5], prior=0.3)
    assert level.probability(np.array([0, 5, 9])) == pytest.approx([0.3, 0.3, 0.3])


def test_a_calibration_goes_through_json():
    calibration = fitted(0.3)
    again = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
    np.testing.assert_array_equal(again.probability(np.arange(65)), calibration.probability(np.arange(65)))
    assert again.prior == 0.3


@pytest.mark.parametrize(
    "change",
    [
        {"distances": [2, 1]},
        {"distances": [1]},
        {"distances": [0, float("nan")]},
        {"distances": [[0], [1]]},
        {"distances": "far"},
        {"probabilities": [0.2, 0.3]},
        {"probabilities": [1.0, 0.3]},
        {"probabilities": [0.5, 0.0]},
        {"probabilities": [0.5, float("nan")]},
        {"probabilities": None},
        {"prior": 1},
        {"prior": []},
        {"distances": [], "probabilities": []},
    ],
)
def test_damaged_calibrations_are_refused(change):
    good = {"distances": [1, 2], "probabilities": [0.9, 0.1], "prior": 0.5}
    Calibration.from_dict(good)
    with pytest.raises(InputError, match="damaged"):
        Calibration.from_dict(good | change)
    with pytest.raises(InputError, match="damaged"):
        Calibration.from_dict({})


def test_impossible_pairs_are_refused():
    with pytest.raises(InputError, match="0 matching pairs and 1 of strangers"):
        fit_calibration([], [1])
    with pytest.raises(InputError, match="not finite"):
        fit_calibration([1, np.nan], [2])
    for prior in (0, 1, np.nan):
        with pytest.raises(InputError, match="prior="):
            fit_calibration([1], [2], prior)
        with pytest.raises(InputError, match="prior="):
            fitted(0.5, 10).with_prior(prior)
    for probabilities in ([], [1.1], [np.nan]):
        with pytest.raises(InputError, match="between 0 and 1"):
            reliability(probabilities, [True] * len(probabilities))


def test_the_expected_error_is_that_of_torchmetrics():
    rng = np.random.default_rng(3)
    probabilities = rng.random(3000) ** 2
    same = rng.random(3000) < probabilities**1.5
    diagram = reliability(probabilities, same, bins=15)
    expected = BinaryCalibrationError(15)(torch.tensor(probabilities), torch.tensor(same).long())
    assert diagram.expected_error == pytest.approx(float(expected), abs=1e-6)
    assert diagram.counts.sum() == 3000


def test_a_diagram_by_hand():
    diagram = reliability([0.1, 0.2, 0.9, 1.0, 0.0], [False, True, True, True, False], bins=2)
    assert diagram.edges.tolist() == [0, 0.5, 1]
    assert diagram.counts.tolist() == [3, 2]
    assert diagram.confidence == pytest.approx([0.1, 0.95])
    assert diagram.frequency == pytest.approx([1 / 3, 1])
    assert diagram.expected_error == pytest.approx((3 * (1 / 3 - 0.1) + 2 * 0.05) / 5)
    assert np.isnan(reliability([0.9], [True], bins=2).confidence[0])
