"""UKBench: complete objects only, a part is called a subset."""

import shutil
from pathlib import Path

import pytest

from niphash.config import conf_dir
from niphash.data.task import RetrievalTask
from niphash.errors import InputError
from niphash.pipeline.catalogue import data_set
from tests.data.replicas import make_ukbench_replica


def task_of(root: Path) -> RetrievalTask:
    data = data_set("ukbench", conf_dir(), root, root=root)
    data.prepare()
    return data.task()


@pytest.mark.parametrize("place", ["", "full", "ukbench/full"])
def test_every_photo_is_a_query_of_its_four(tmp_path: Path, place: str) -> None:
    make_ukbench_replica(tmp_path / "replica", objects=3)
    shutil.copytree(tmp_path / "replica" / "full", tmp_path / "root" / place)
    task = task_of(tmp_path / "root")
    assert (len(task.database), len(task.queries), task.subset, task.average_precision) == (
        12,
        12,
        12,
        "finite",
    )
    for row, truth in enumerate(task.relevance):
        objects = [int(task.database.ids[i][-5:]) // 4 for i in truth.relevant]
        assert objects == [int(task.queries.ids[row][-5:]) // 4] * 4
        assert row in truth.relevant
        assert truth.junk.size == 0


def test_incomplete_objects_are_left_out_and_noted(tmp_path: Path) -> None:
    make_ukbench_replica(tmp_path, objects=3)
    (tmp_path / "full" / "ukbench00006.jpg").unlink()
    task = task_of(tmp_path)
    assert [name[-5:] for name in task.database.ids] == [
        "00000",
        "00001",
        "00002",
        "00003",
        "00008",
        "00009",
        "00010",
        "00011",
    ]
    assert task.relevance[4].relevant.tolist() == [4, 5, 6, 7]
    assert task.notes == ("3 photos of incomplete objects left out",)
    assert task.subset == 8


def test_folders_without_a_whole_object_are_named(tmp_path: Path) -> None:
    make_ukbench_replica(tmp_path, objects=1)
    (tmp_path / "full" / "ukbench00003.jpg").unlink()
    with pytest.raises(InputError, match=f"{tmp_path}: no object with all its four photos"):
        task_of(tmp_path)


@pytest.mark.shared
def test_the_500_real_photos_are_a_subset(shared: Path) -> None:
    task = task_of(shared / "data" / "ukbench")
    assert (len(task.database), len(task.queries), task.subset, task.notes) == (500, 500, 500, ())
