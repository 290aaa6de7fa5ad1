"""Views of held-out photos."""

from pathlib import Path

import numpy as np
import pytest

from niphash.data.sets.held_out_views import HeldOutViews
from niphash.errors import InputError


def test_the_database_is_held_out_of_the_fit_set_and_its_views_are_queries(object_folder: Path):
    data = HeldOutViews(object_folder, photos=10, views=3, seed=1)
    data.prepare()
    task, fitted = data.task(), data.fit_set()
    assert not set(task.database.ids) & set(fitted.ids)
    assert (len(task.database), len(task.queries), len(fitted)) == (10, 30, 26)
    for query, relevance in zip(task.queries.ids, task.relevance, strict=True):
        [relevant] = relevance.relevant
        assert query.partition("#")[0] == task.database.ids[relevant]
    first, second = (np.asarray(task.queries.image(i)) for i in (0, 10))
    assert first.shape != second.shape or (first != second).any()


def test_one_seed_gives_one_task(object_folder: Path):
    one, same, other = (HeldOutViews(object_folder, photos=8, seed=s).task() for s in (0, 0, 1))
    assert one.database.ids == same.database.ids != other.database.ids
    assert [one.queries.checksum(i) for i in range(4)] == [same.queries.checksum(i) for i in range(4)]


def test_a_folder_without_enough_photos_is_refused(object_folder: Path):
    with pytest.raises(InputError, match="too few to hold out"):
        HeldOutViews(object_folder, photos=35).prepare()
    with pytest.raises(InputError, match=r"data\.root"):
        HeldOutViews(None).prepare()
    with pytest.raises(InputError, match=r"data\.photos=1"):
        HeldOutViews(object_folder, photos=1)
