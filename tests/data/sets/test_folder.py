"""The user's own folder: sub-folders, CSV files, or no labels."""

import csv
import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from niphash.config import conf_dir
from niphash.data.fit_photos import class_folder_pairs, fit_images
from niphash.data.names import portable_name
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


def csv_folder(root: Path, queries: str = "", relevance: str = "") -> Path:
    for i in range(6):
        photo(root, f"db/p{i}.jpg", i // 3, i % 3)
    (root / "queries.csv").write_text("query,image\nq0,db/p0.jpg\nq1,db/p3.jpg\n" + queries)
    (root / "relevance.csv").write_text(
        "query,image,label\nq0,db/p1.jpg,relevant\nq1,db/p4.jpg,relevant\n" + relevance
    )
    return root


def test_train_and_val_are_not_objects(tmp_path: Path) -> None:
    for split, number in (("train", 0), ("val", 1)):
        for name in ("cup", "lamp", "shoe"):
            photo(tmp_path, f"{split}/{name}/{number}.jpg", number=number)
    task = task_of(tmp_path)
    assert relevant(task, "train/cup/0.jpg") == {"val/cup/1.jpg"}
    assert task.notes[0] == "3 objects, 6 queries, 0 distractors"
    assert task.notes[1].startswith("train/ and val/ are parts of a data set")


def test_pairs_of_folders_and_evaluation_mean_the_same_objects(tmp_path: Path) -> None:
    for name in ("cup/1.jpg", "cup/deep/2.jpg", "cup/deeper/3.jpg", "lamp/1.jpg", "lamp/2.jpg", "loose.jpg"):
        photo(tmp_path, name)
    task = task_of(tmp_path)
    images = fit_images(tmp_path)
    paired = {frozenset((images.ids[a], images.ids[b])) for a, b in class_folder_pairs(images)}
    asked = {frozenset((query, other)) for query in task.queries.ids for other in relevant(task, query)}
    assert paired == asked
    assert len(paired) == 4


def test_a_photo_that_is_relevant_and_junk_is_refused_with_its_line(tmp_path: Path) -> None:
    csv_folder(tmp_path, relevance="q0,DB/P1.jpg,junk\n")  # the same photo under another spelling
    with pytest.raises(
        InputError, match=r"relevance.csv, line 4: .* is junk for the query 'q0' here and relevant in line 2"
    ):
        task_of(tmp_path)


def test_a_label_given_twice_is_no_contradiction(tmp_path: Path) -> None:
    csv_folder(tmp_path, relevance="q0,db/p1.jpg,relevant\n")
    assert relevant(task_of(tmp_path), "q0") == {"db/p1.jpg"}


def test_a_query_without_relevant_photos_is_said(tmp_path: Path) -> None:
    task = task_of(csv_folder(tmp_path, queries="q2,db/p5.jpg\n"))
    assert task.notes == (
        "3 queries, 2 database photos relevant to one or more of them, 1 distractors",
        "1 query without relevant photos, not counted",
    )


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("0.1,0.1,0.9,0.9", r"line 2, query 'q0': the box .* is in fractions of the photo"),
        ("10,10,10,40", r"line 2, query 'q0': the box 10 10 10 40 encloses nothing"),
        ("10,10,13,40", r"line 2, query 'q0': the box 10 10 13 40 is 3 x 30 pixels"),
        ("100,2,130,40", r"line 2: the box of query 'q0' misses the photo, which is 64 x 64 pixels"),
        ("60,2,130,40", r"line 2: the box of query 'q0' holds 4 x 38 pixels of the photo, which is 64 x 64"),
    ],
)
def test_boxes_that_hold_nothing_are_refused_with_the_querys_name(
    tmp_path: Path, box: str, message: str
) -> None:
    csv_folder(tmp_path)
    (tmp_path / "queries.csv").write_text(f"query,image,left,top,right,bottom\nq0,db/p0.jpg,{box}\n")
    (tmp_path / "relevance.csv").write_text("query,image\nq0,db/p1.jpg\n")
    with pytest.raises(InputError, match=message):
        task_of(tmp_path)


def test_boxes_are_in_pixels_of_the_upright_photo(tmp_path: Path) -> None:
    csv_folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    view(0, 0).crop((0, 0, 200, 50)).save(tmp_path / "db/p0.jpg", exif=exif)  # upright 50 x 200
    (tmp_path / "queries.csv").write_text("query,image,left,top,right,bottom\nq0,db/p0.jpg,5,100,45,190\n")
    (tmp_path / "relevance.csv").write_text("query,image\nq0,db/p1.jpg\n")
    assert task_of(tmp_path).queries.image(0).size == (40, 90)


def test_names_differ_from_files_by_unicode_form_or_case(tmp_path: Path) -> None:
    csv_folder(tmp_path)
    (tmp_path / "db/p0.jpg").rename(tmp_path / "db" / unicodedata.normalize("NFD", "é.jpg"))
    (tmp_path / "db/p1.jpg").rename(tmp_path / "db/P1.JPG")
    (tmp_path / "queries.csv").write_text("query,image\nq0,db/é.jpg\n")
    (tmp_path / "relevance.csv").write_text("query,image\nq0,db/p1.jpg\n")
    assert relevant(task_of(tmp_path), "q0") == {"db/P1.JPG"}


def test_tables_name_every_file_there_can_be(tmp_path: Path) -> None:
    strange = [os.fsdecode(b"latin\xe9/p\xe9.jpg"), "with\nnewline/a,b.jpg", " blank .jpg", 'say "hi".jpg']
    for name in strange:
        photo(tmp_path, name)
    photo(tmp_path, "q.jpg")
    with (tmp_path / "relevance.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerows([["query", "image"], *(["q.jpg", portable_name(name)] for name in strange)])
    (tmp_path / "queries.csv").write_text("image\nq.jpg\n")
    assert relevant(task_of(tmp_path), "q.jpg") == set(strange)


def test_what_the_folder_holds_besides_is_said(tmp_path: Path) -> None:
    for name in ("cup/1.jpg", "cup/2.jpg", "lamp/1.jpg", "lamp/2.jpg", "cup/@eaDir/1.jpg/t.jpg"):
        photo(tmp_path, name)
    assert task_of(tmp_path).notes == ("2 objects, 4 queries, 0 distractors", "left out: 1 in @eaDir")
