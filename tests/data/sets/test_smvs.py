"""Stanford Mobile Visual Search on a replica."""

from pathlib import Path

import pytest

from niphash.config import conf_dir
from niphash.data.sets.smvs import CATEGORIES, GRAPHICS
from niphash.data.task import RetrievalTask
from niphash.errors import InputError
from niphash.pipeline.catalogue import data_set
from tests.data.replicas import make_smvs_replica, serve, zipped


def task_of(root: Path, **overrides: object) -> RetrievalTask:
    data = data_set("smvs", conf_dir(), root, root=root, **overrides)
    data.prepare()
    return data.task()


def check(task: RetrievalTask) -> None:
    for name, truth in zip(task.queries.ids, task.relevance, strict=True):
        category, _, number = name.split("/")
        assert [task.database.ids[i] for i in truth.relevant] == [f"{category}/Reference/{number}"]


def test_graphics_joins_the_five_planar_categories(tmp_path: Path) -> None:
    make_smvs_replica(tmp_path, CATEGORIES, objects=3)
    task = task_of(tmp_path)
    assert (len(task.database), len(task.queries), task.subset) == (15, 30, None)
    assert {name.split("/")[0] for name in task.database.ids} == set(GRAPHICS)
    check(task)


@pytest.mark.parametrize("category", CATEGORIES)
def test_one_category(tmp_path: Path, category: str) -> None:
    make_smvs_replica(tmp_path, (category,), objects=2)
    task = task_of(tmp_path, category=category)
    assert (task.name, len(task.database), len(task.queries)) == (f"smvs-{category}", 2, 4)
    check(task)


def test_several_references_of_one_number_are_all_relevant(tmp_path: Path) -> None:
    make_smvs_replica(tmp_path, ("print",), objects=2)
    reference = tmp_path / "print" / "Reference"
    (reference / "001b.jpg").write_bytes((reference / "001.jpg").read_bytes())
    task = task_of(tmp_path, category="print")
    assert sorted(len(truth.relevant) for truth in task.relevance) == [1, 1, 2, 2]


def test_categories_and_references_that_are_missing_are_noted(tmp_path: Path) -> None:
    make_smvs_replica(tmp_path, GRAPHICS[:2], objects=2)
    (tmp_path / GRAPHICS[0] / "Reference" / "002.jpg").unlink()
    task = task_of(tmp_path)
    assert task.notes == (
        "2 phone photos without a reference picture left out",
        f"categories not in {tmp_path}: {', '.join(GRAPHICS[2:])}",
    )
    assert task.subset == len(task.database) == 3


def test_only_the_chosen_category_is_fetched(tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    for category in ("print", "cd_covers"):
        zipped(make_smvs_replica(tmp_path / category, (category,), objects=2), served / f"{category}.zip")
    with serve(served) as server:
        archives = [{"name": f"{c}.zip", "urls": [f"{server.url}/{c}.zip"]} for c in ("print", "cd_covers")]
        task = task_of(tmp_path / "root", category="print", archives=archives)
        assert server.requests == [("/print.zip", None)]
    assert len(task.queries) == 4


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data.category=posters: choose graphics or one of"):
        task_of(tmp_path, category="posters")
    make_smvs_replica(tmp_path, ("print",), objects=2)
    for path in (tmp_path / "print" / "Reference").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=f"{tmp_path}: no reference picture in this folder"):
        task_of(tmp_path, category="print")


def test_what_lies_deeper_than_the_official_layout_is_left_out(tmp_path: Path) -> None:
    make_smvs_replica(tmp_path, ("print",), objects=2)
    for device in ("Reference", "Canon"):
        small = tmp_path / "print" / device / "small"
        small.mkdir()
        (small / "001.jpg").write_bytes((tmp_path / "print" / device / "001.jpg").read_bytes())
    task = task_of(tmp_path, category="print")
    assert (len(task.database), len(task.queries)) == (2, 4)
    assert task.notes == ("left out: 2 outside <category>/<device>/<number>.jpg",)
