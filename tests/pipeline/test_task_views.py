"""Database images described over rotations."""

import numpy as np
import pytest

from niphash.data.images import as_image_set
from niphash.errors import InputError
from niphash.pipeline.task_views import DatabasePooling, TaskViews
from tests.photos import real_photos


def mean_colour_by_quarter(images) -> np.ndarray:
    """Return a descriptor that turns with the photo: the grey level of each quarter, L2-normalised."""
    rows = []
    for i in range(len(images)):
        grey = np.asarray(images.image(i).convert("L").resize((2, 2)), np.float32).ravel()
        rows.append(grey / np.linalg.norm(grey))
    return np.stack(rows)


def test_a_full_turn_enters_each_angle_once():
    assert DatabasePooling("max", 180, 90).angles().tolist() == [-180, -90, 0, 90]
    assert DatabasePooling("max", 30, 10).angles().tolist() == [-30, -20, -10, 0, 10, 20, 30]


@pytest.mark.parametrize("kind", ["max", "mean"])
def test_pooling_over_a_full_turn_is_invariant_to_quarter_turns(kind: str):
    photos = [photo.resize((120, 120)) for photo in real_photos()[:3]]
    pooling = DatabasePooling(kind, 180, 90)
    [upright] = pooling.describe(as_image_set(photos), mean_colour_by_quarter)
    [turned] = pooling.describe(as_image_set([p.rotate(90) for p in photos]), mean_colour_by_quarter)
    np.testing.assert_allclose(np.linalg.norm(upright, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(upright, turned, atol=0.02)


def test_minimum_distance_keeps_every_copy():
    images = as_image_set(real_photos()[:2])
    copies = DatabasePooling("min_distance", 90, 45).describe(images, mean_colour_by_quarter)
    assert [copy.shape for copy in copies] == [(2, 4)] * 5


@pytest.mark.parametrize("kind", ["max", "mean", "min_distance"])
def test_an_angle_without_a_descriptor_leaves_the_photo_to_the_others(kind: str):
    images = as_image_set(real_photos()[:2])
    turns = iter(range(3))

    def describe(images) -> np.ndarray:
        rows = mean_colour_by_quarter(images)
        rows[:, 0] = np.linspace(0.1, 0.5, 3)[turn := next(turns)]
        rows[0] = np.nan  # never any
        rows[1] = np.nan if turn == 1 else rows[1]
        return rows

    copies = DatabasePooling(kind, 90, 90).describe(images, describe)
    assert all(np.isnan(copy[0]).all() and np.isfinite(copy[1]).all() for copy in copies)


@pytest.mark.parametrize(
    "values",
    [
        {"pool_database": "median", "pool_degrees": 180, "pool_step": 30},
        {"pool_database": "max", "pool_degrees": 20, "pool_step": 30},
        {"pool_database": "max", "pool_degrees": 200, "pool_step": 30},
    ],
)
def test_impossible_values_are_refused(values):
    with pytest.raises(InputError, match=r"views\.pool"):
        TaskViews(**values)
