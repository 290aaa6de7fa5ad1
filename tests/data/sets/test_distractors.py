"""Distractors join any task's database and leave its ground truth alone."""

from pathlib import Path

import pytest

from niphash.config import build, compose
from niphash.data.images import ImageSet
from niphash.data.sets.distractors import add_distractors
from niphash.data.sets.ukbench import UKBenchData
from niphash.data.task import RetrievalTask
from niphash.errors import InputError
from tests.data.replicas import jpeg, make_ukbench_replica, serve, view, zipped


@pytest.fixture
def task(tmp_path: Path) -> RetrievalTask:
    return UKBenchData(make_ukbench_replica(tmp_path / "ukbench", objects=2)).task()


@pytest.fixture
def clutter(tmp_path: Path) -> Path:
    folder = tmp_path / "clutter"
    for i in range(5):
        path = folder / str(i % 2) / f"ukbench0000{i}.jpg"  # names that the database has as well
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(view(50 + i, 0, side=48)))
    return folder


def joined(task: RetrievalTask, *overrides: str) -> RetrievalTask:
    """What the overrides on the command line make of ``task``."""
    return build(compose(overrides).distractors, _partial_=True)(task)


def test_they_are_appended(task: RetrievalTask, clutter: Path) -> None:
    larger = add_distractors(task, ImageSet.from_folder(clutter))
    assert larger.database.ids[:8] == task.database.ids
    assert len(set(larger.database.ids)) == len(larger.database) == 13
    assert larger.relevance is task.relevance
    assert larger.queries is task.queries
    assert "with 5 distractors" in larger.protocol
    assert larger.database.image(12).size == (48, 48)


def test_a_larger_limit_holds_a_smaller_one(task: RetrievalTask, clutter: Path) -> None:
    images = ImageSet.from_folder(clutter)
    three, four = (add_distractors(task, images, limit).database.ids for limit in (3, 4))
    assert len(three) == 11
    assert four[:11] == three
    assert add_distractors(task, images, 0) is task


@pytest.mark.parametrize("limit", [-1, 6])
def test_limits_that_cannot_be_met_are_refused(task: RetrievalTask, clutter: Path, limit: int) -> None:
    with pytest.raises(InputError, match=f"distractors.limit={limit}"):
        add_distractors(task, ImageSet.from_folder(clutter), limit)


def test_any_folder_from_the_command_line(task: RetrievalTask, clutter: Path) -> None:
    overrides = ["distractors=folder", f"distractors.root={clutter}", "distractors.limit=2"]
    assert len(joined(task, *overrides).database) == 10
    with pytest.raises(InputError, match=r"distractors.root"):
        joined(task, "distractors=folder")
    assert joined(task) is task


@pytest.mark.parametrize("name", ["mirflickr1m", "flickr100k", "revisitop1m"])
def test_published_sets_are_found_in_their_folder(task: RetrievalTask, clutter: Path, name: str) -> None:
    overrides = [f"distractors={name}", f"distractors.root={clutter}"]
    assert len(joined(task, *overrides).database) == 13


def test_published_sets_are_fetched(task: RetrievalTask, clutter: Path, tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    zipped(clutter, served / "images0.zip")
    with serve(served) as server:
        archives = f"[{{name: images0.zip, urls: ['{server.url}/images0.zip']}}]"
        overrides = ["distractors=mirflickr1m", f"distractors.root={tmp_path / 'flickr'}"]
        assert len(joined(task, *overrides, f"distractors.archives={archives}").database) == 13
