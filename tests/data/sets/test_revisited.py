"""Revisited Oxford on a replica: the three protocols, and queries outside the database."""

from pathlib import Path

import pytest

from niphash.config import conf_dir
from niphash.data.task import Relevance, RetrievalTask
from niphash.errors import InputError
from niphash.pipeline.catalogue import data_set
from tests.data.replicas import make_oxford_replica, make_roxford_replica


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_roxford_replica(tmp_path / "oxford")


def task_of(root: Path, **overrides: bool) -> RetrievalTask:
    data = data_set("roxford", conf_dir(), root, root=root, **overrides)
    data.prepare()
    return data.task()


def test_three_protocols(root: Path) -> None:
    task = task_of(root)
    assert (len(task.database), len(task.queries), task.subset) == (33, 3, None)
    assert task.average_precision == "trapezoid"
    assert not set(task.queries.ids) & set(task.database.ids)
    assert task.relevance is task.variants["medium"]

    def names(truth: Relevance) -> tuple[list[str], list[str]]:
        return [task.database.ids[i][-6:] for i in truth.relevant], [
            task.database.ids[i][-6:] for i in truth.junk
        ]

    for query in range(3):
        easy, hard, junk = ["000013", "000020", "000027"], ["000034", "000041"], ["000048", "000055"]
        assert names(task.variants["easy"][query]) == (easy, hard + junk)
        assert names(task.variants["medium"][query]) == (easy + hard, junk)
        assert names(task.variants["hard"][query]) == (hard, easy + junk)


def test_boxes_crop_unless_switched_off(root: Path) -> None:
    assert task_of(root).queries.image(0).size == (210, 214)
    assert task_of(root, crop_query=False).queries.image(0).size == (240, 240)


def test_missing_images_leave_queries_out(root: Path) -> None:
    (root / "jpg" / "balliol_000041.jpg").unlink()  # hard
    (root / "jpg" / "oxford_000003.jpg").unlink()  # of no query
    task = task_of(root)
    assert task.queries.ids == ("all_souls_000006", "radcliffe_camera_000006")
    assert (task.subset, len(task.database)) == (31, 31)
    assert task.notes[1] == "1 of 3 queries left out: not all their images are here"
    assert [task.database.ids[i] for i in task.variants["easy"][1].relevant] == [
        f"radcliffe_camera_0000{n}" for n in (13, 20, 27)
    ]


def test_without_the_pickle_the_place_is_named(tmp_path: Path) -> None:
    root = make_oxford_replica(tmp_path / "oxford")
    data = data_set("roxford", conf_dir(), root, root=root, ground_truth=[{"name": "gnd_roxford5k.pkl"}])
    with pytest.raises(InputError, match=r"no gnd_roxford5k\.pkl; expected there"):
        data.task()
    with pytest.raises(InputError, match=f"gnd_roxford5k.pkl is missing in {root}"):
        data.prepare()
