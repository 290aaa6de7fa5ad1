"""The user's own folder: sub-folders, CSV files, or no labels."""

from pathlib import Path

import pytest

from niphash.config import conf_dir
from niphash.data.sets.folder import FolderData
from niphash.data.task import RetrievalTask
from niphash.errors import InputError
from niphash.pipeline.catalogue import data_set
from tests.data.replicas import jpeg, view


def photo(root: Path, name: str, subject: int = 0, number: int = 0) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(view(subject, number, side=64)))


def task_of(root: Path, **overrides: bool) -> RetrievalTask:
    data = data_set("folder", conf_dir(), root, root=root, **overrides)
    data.prepare()
    return data.task()


def relevant(task: RetrievalTask, query: str) -> set[str]:
    return {task.database.ids[i] for i in task.relevance[task.queries.ids.index(query)].relevant}


def junk(task: RetrievalTask, query: str) -> set[str]:
    return {task.database.ids[i] for i in task.relevance[task.queries.ids.index(query)].junk}


def test_each_sub_folder_is_an_object(tmp_path: Path) -> None:
    for name in (
        "cup/1.jpg",
        "cup/2.jpg",
        "cup/deep/3.jpg",
        "lamp/1.jpg",
        "lamp/2.jpg",
        "once/1.jpg",
        "loose.jpg",
    ):
        photo(tmp_path, name)
    task = task_of(tmp_path)
    assert (len(task.database), len(task.queries), task.average_precision) == (7, 5, "finite")
    assert relevant(task, "cup/1.jpg") == {"cup/2.jpg", "cup/deep/3.jpg"}
    assert junk(task, "cup/1.jpg") == {"cup/1.jpg"}
    assert task.notes == (
        "2 objects, 5 queries, 2 distractors "
        "(photos outside the sub-folders: 1, objects with a single photo: 1)",
        "1 objects have sub-folders, whose photos are of the same object",
    )


def test_csv_files_say_what_is_relevant(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "sub/c.jpg", "queries/q.jpg"):
        photo(tmp_path, name)
    (tmp_path / "queries.csv").write_text(
        "query,image,left,top,right,bottom\nseen,a.jpg,4,4,40,50\nnew,queries/q.jpg,,,,\n"
    )
    (tmp_path / "relevance.csv").write_text(
        "query,image,label\nseen,b.jpg,relevant\nseen,sub/c.jpg,junk\nnew,sub/c.jpg,relevant\nnew,a.jpg,relevant\n"
    )
    task = task_of(tmp_path)
    assert task.database.ids == ("a.jpg", "b.jpg", "sub/c.jpg")
    assert task.queries.ids == ("seen", "new")
    assert (relevant(task, "seen"), junk(task, "seen")) == ({"b.jpg"}, {"a.jpg", "sub/c.jpg"})
    assert (relevant(task, "new"), junk(task, "new")) == ({"a.jpg", "sub/c.jpg"}, set())
    assert task.queries.image(0).size == (36, 46)
    assert task.queries.image(1).size == (64, 64)
    assert task_of(tmp_path, crop_query=False).queries.image(0).size == (64, 64)


def test_a_query_listed_as_relevant_to_itself_counts(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        photo(tmp_path, name)
    (tmp_path / "queries.csv").write_text("image\na.jpg\n")
    (tmp_path / "relevance.csv").write_text("query,image\na.jpg,a.jpg\na.jpg,b.jpg\n")
    task = task_of(tmp_path)
    assert (relevant(task, "a.jpg"), junk(task, "a.jpg")) == ({"a.jpg", "b.jpg"}, set())


@pytest.mark.parametrize(
    ("queries", "relevance", "message"),
    [
        ("image\nx.jpg\n", "query,image\nx.jpg,a.jpg\n", r"queries\.csv, line 2: no photo 'x\.jpg'"),
        ("image\na.jpg\n", "query,image\na.jpg,x.jpg\n", r"relevance\.csv, line 2: no photo 'x\.jpg'"),
        ("image\na.jpg\n", "query,image,label\na.jpg,b.jpg,junk\n", "no query has a relevant photo"),
        ("image\na.jpg\n", None, r"relevance\.csv: no such file; .* belong together"),
        (None, "query,image\na.jpg,b.jpg\n", r"queries\.csv: no such file; .* belong together"),
    ],
)
def test_csv_files_that_do_not_fit_are_named(
    tmp_path: Path, queries: str | None, relevance: str | None, message: str
) -> None:
    for name in ("a.jpg", "b.jpg"):
        photo(tmp_path, name)
    if queries is not None:
        (tmp_path / "queries.csv").write_text(queries)
    if relevance is not None:
        (tmp_path / "relevance.csv").write_text(relevance)
    with pytest.raises(InputError, match=message):
        task_of(tmp_path)


def test_a_flat_folder_serves_for_fitting_only(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        photo(tmp_path, name)
    data = FolderData(tmp_path)
    data.prepare()
    assert data.fit_set().ids == ("a.jpg", "b.jpg")
    with pytest.raises(InputError, match=f"{tmp_path}: no labels in this flat folder"):
        data.task()


def test_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data=folder needs data.root"):
        data_set("folder", conf_dir(), tmp_path).prepare()
    with pytest.raises(InputError, match="no such folder"):
        task_of(tmp_path / "nothing")
    with pytest.raises(InputError, match="no image in this folder"):
        task_of(tmp_path)
    photo(tmp_path, "only/a.jpg")
    with pytest.raises(InputError, match=r"only one image \(a\.jpg\)"):
        task_of(tmp_path)
    photo(tmp_path, "only/b.jpg")
    with pytest.raises(InputError, match="no usable group"):  # a single object makes every photo relevant
        task_of(tmp_path)
    photo(tmp_path, "other/a.jpg")
    assert len(task_of(tmp_path).queries) == 2


@pytest.mark.shared
def test_the_grocery_photos(shared: Path) -> None:
    task = task_of(shared / "data" / "grocery")
    assert len(task.queries) == len(task.database)
    assert len({name.split("/")[0] for name in task.database.ids}) == 16
