"""INRIA Holidays on a replica and on the real names."""

import shutil
from pathlib import Path

import pytest

from niphash.config import conf_dir
from niphash.data.task import RetrievalTask
from niphash.errors import InputError
from niphash.pipeline.catalogue import data_set
from tests.data.replicas import jpeg, make_holidays_replica, view


def task_of(root: Path) -> RetrievalTask:
    data = data_set("holidays", conf_dir(), root, root=root)
    data.prepare()
    return data.task()


def test_the_query_is_junk_and_its_group_relevant(tmp_path: Path) -> None:
    task = task_of(make_holidays_replica(tmp_path))
    assert (len(task.database), len(task.queries), task.subset) == (18, 6, 18)
    assert task.average_precision == "trapezoid"
    assert task.queries.ids == tuple(f"{1000 + i}00" for i in range(6))
    for name, truth in zip(task.queries.ids, task.relevance, strict=True):
        assert [task.database.ids[i] for i in truth.junk] == [name]
        assert all(task.database.ids[i][:4] == name[:4] for i in truth.relevant)
    assert [len(truth.relevant) for truth in task.relevance] == [1, 2, 3, 1, 2, 3]


def test_incomplete_groups_are_left_out(tmp_path: Path) -> None:
    make_holidays_replica(tmp_path)
    (tmp_path / "jpg" / "100100.jpg").unlink()  # a query
    (tmp_path / "jpg" / "100001.jpg").unlink()  # the only other photo of its group
    task = task_of(tmp_path)
    assert task.queries.ids == ("100200", "100300", "100400", "100500")
    assert task.notes == ("3 photos of incomplete groups left out",)


def test_the_official_list_tells_what_is_complete(tmp_path: Path) -> None:
    make_holidays_replica(tmp_path)
    names = sorted(path.name for path in (tmp_path / "jpg").iterdir())
    (tmp_path / "holidays_images.dat").write_text("\n".join(names))
    (tmp_path / "jpg" / "100203.jpg").unlink()  # one of four: without the list it would not be missed
    assert "100200" not in task_of(tmp_path).queries.ids
    (tmp_path / "holidays_images.dat").unlink()
    assert "100200" in task_of(tmp_path).queries.ids


def test_a_folder_without_a_group_is_named(tmp_path: Path) -> None:
    for name in ("100001.jpg", "100101.jpg"):
        (tmp_path / name).write_bytes(jpeg(view(0, 0)))
    with pytest.raises(InputError, match=f"{tmp_path}: no group with its query and another photo"):
        task_of(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(f"photo{path.name}"))
    with pytest.raises(InputError, match=f"{tmp_path}: no Holidays photo in this folder"):
        task_of(tmp_path)


@pytest.mark.shared
def test_the_real_names_give_the_official_sizes(shared: Path, tmp_path: Path) -> None:
    names = (shared / "data" / "ground_truth" / "holidays_images.dat").read_text().split()
    (tmp_path / "jpg").mkdir()
    shutil.copy(shared / "data" / "ground_truth" / "gnd_holidays.mat", tmp_path)
    picture = tmp_path / "jpg" / names[0]
    picture.write_bytes(jpeg(view(0, 0, side=16)))
    for name in names[1:]:
        (tmp_path / "jpg" / name).hardlink_to(picture)
    task = task_of(tmp_path)
    assert (len(task.database), len(task.queries), task.subset, task.notes) == (1491, 500, None, ())
    assert sum(len(truth.relevant) for truth in task.relevance) == 991
