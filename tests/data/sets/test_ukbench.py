"""UKBench: complete objects only, a part is called a subset."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

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


@pytest.mark.parametrize("place", ["aaa", "thumbnails", "zzz/deep"])
@pytest.mark.parametrize("root", ["", "full"])
def test_thumbnails_never_stand_in_for_the_photos(tmp_path: Path, place: str, root: str) -> None:
    make_ukbench_replica(tmp_path / "replica", objects=2)
    shutil.copytree(tmp_path / "replica" / "full", tmp_path / "data" / root)
    (tmp_path / "data" / place).mkdir(parents=True)
    for path in (tmp_path / "replica" / "full").iterdir():
        Image.open(path).resize((16, 12)).save(tmp_path / "data" / place / path.name)
    if root:  # one loose picture makes the folder itself the place to look in
        Image.open(path).save(tmp_path / "data" / "cover.jpg")
    task = task_of(tmp_path / "data")
    assert {task.database.image(i).size for i in range(8)} == {(240, 240)}
    prefix = f"{root}/" if root else ""
    (note,) = task.notes
    assert (
        f"8 whose names other files have ({place}/ukbench00000.jpg: {prefix}ukbench00000.jpg is used)" in note
    )


def test_of_files_in_one_folder_the_official_suffix_counts_then_the_larger(tmp_path: Path) -> None:
    make_ukbench_replica(tmp_path, objects=1)
    photo = Image.open(tmp_path / "full" / "ukbench00000.jpg")
    photo.resize((480, 480)).save(tmp_path / "full" / "ukbench00000.png")
    photo.resize((30, 30)).save(tmp_path / "full" / "ukbench00001.webp")
    (tmp_path / "full" / "ukbench00001.jpg").unlink()
    photo.resize((60, 60)).save(tmp_path / "full" / "ukbench00001.png")
    task = task_of(tmp_path)
    assert [task.database.sources[i].name for i in (0, 1)] == ["ukbench00000.jpg", "ukbench00001.png"]  # type: ignore[union-attr]
    assert sum(task.database.survey.left_out.values()) == 2  # type: ignore[union-attr]


def test_names_in_capitals_are_the_same_photos(tmp_path: Path) -> None:
    make_ukbench_replica(tmp_path, objects=1)
    for path in list((tmp_path / "full").iterdir()):
        path.rename(path.with_name(path.name.upper()))
    assert task_of(tmp_path).database.ids[0] == "ukbench00000"
