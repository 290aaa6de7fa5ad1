"""What visible units are made of: axes of the fit set, tempered, or its dimensions."""

import numpy as np
import pytest

from niphash.errors import InputError
from niphash.hashing.rbm.scaling import POWER, axis_count, by_dimension, by_principal_axis
from niphash.hashing.rbm.stack import RBMStack
from niphash.training.fit_data import FitData

DEVIATIONS = 2.0 ** -np.arange(12)


def rows(count: int = 400) -> np.ndarray:
    """Points whose principal deviations are known, turned in space and moved off the origin."""
    generator = np.random.default_rng(0)
    turn, _ = np.linalg.qr(generator.standard_normal((12, 12)))
    points, _ = np.linalg.qr(generator.standard_normal((count, 12)))
    points -= points.mean(0)
    points, _ = np.linalg.qr(points)
    return (np.sqrt(count) * points * DEVIATIONS @ turn + 5).astype(np.float32)


def seen(data: np.ndarray, count: int) -> np.ndarray:
    mean, scale, axes = by_principal_axis(data, count, seed=0)
    assert axes is not None
    return ((data - mean.numpy()) @ axes.numpy().T) / scale.numpy()


def test_axes_keep_a_power_of_their_deviation_and_unit_mean_variance():
    units = seen(rows(), 6)
    expected = DEVIATIONS[:6] ** (1 - POWER)
    expected /= np.sqrt(np.mean(expected**2))
    np.testing.assert_allclose(units.std(0), expected, rtol=1e-3)
    np.testing.assert_allclose(np.corrcoef(units.T), np.eye(6), atol=1e-3)


def test_an_axis_without_variance_does_not_drown_the_others():
    data = rows()
    data[:] = data @ np.diag([1, 1, 1, *[0] * 9]).astype(np.float32)
    units = seen(data, 8)
    assert np.isfinite(units).all()
    assert (units.std(0)[3:] < 0.01 * units.std(0)[0]).all()


def test_dimensions_are_standardised():
    mean, scale, axes = by_dimension(rows())
    assert axes is None
    units = (rows() - mean.numpy()) / scale.numpy()
    np.testing.assert_allclose(units.std(0), 1, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "visible"),
    [
        ({}, 16),
        ({"layers": [16]}, 16),
        ({"layers": [32]}, 64),  # wider than the axes: the sizes of the papers
        ({"visible": "binary"}, 64),
        ({"scaling": "dimension"}, 64),
    ],
)
def test_a_network_sees_two_axes_a_bit_unless_something_speaks_against_it(options, visible):
    hasher = RBMStack(8, **options)
    assert hasher.visible_size(64, 500) == visible
    assert hasher.visible_size(64, 16) == 64  # too few photos for as many axes
    assert axis_count(10, 8) == 10


def test_more_axes_than_photos_are_refused_before_anything_is_described():
    with pytest.raises(InputError, match=r"hashing\.scaling=principal: 16 fit descriptors have no 16"):
        RBMStack(8, scaling="principal").check(64, 16)
    with pytest.raises(InputError, match=r"grows over the 16 axes of hashing\.scaling"):
        RBMStack(8, scaling="principal", layers=[32]).check(64, 500)


def test_a_saved_network_sees_the_same_axes():
    data = np.random.default_rng(1).standard_normal((100, 32)).astype(np.float32)
    hasher, loaded = RBMStack(8, max_epochs=1, min_steps=1), RBMStack(8)
    hasher.fit(FitData(data))
    loaded.load_state_dict(hasher.state_dict())
    assert loaded.dim == 32
    assert np.array_equal(loaded.encode(data), hasher.encode(data))
