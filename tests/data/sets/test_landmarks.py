"""Oxford5k and Paris6k on replicas of their official layout, and on the real ground truth."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from niphash.config import conf_dir
from niphash.data.sets.landmarks import LandmarkData
from niphash.errors import InputError
from niphash.pipeline.catalogue import data_set
from tests.data.replicas import jpeg, make_oxford_replica, make_paris_replica, view


def configured(name: str, root: Path, **overrides: bool) -> LandmarkData:
    data = data_set(name, conf_dir(), root, root=root, **overrides)
    assert isinstance(data, LandmarkData)
    return data


@pytest.fixture
def oxford(tmp_path: Path) -> Path:
    return make_oxford_replica(tmp_path / "oxford")


def test_oxford_task(oxford: Path) -> None:
    data = configured("oxford", oxford)
    data.prepare()
    task = data.task()
    assert (task.name, task.average_precision, data.fit_partner) == ("oxford", "trapezoid", "paris")
    assert (len(task.database), len(task.queries), task.subset, task.notes) == (36, 15, 36, ())
    assert list(task.database.ids) == sorted(task.database.ids)
    assert task.queries.ids[0] == "all_souls_1"
    relevant = [task.database.ids[i] for i in task.relevance[0].relevant]
    assert relevant == [f"all_souls_{7 * n + 6:06d}" for n in range(7)]
    assert "all_souls_000006" in relevant  # the query image stays in the list
    assert [task.database.ids[i] for i in task.relevance[0].junk] == ["all_souls_000055"]
    assert "55 queries" not in task.protocol
    assert "15 queries cut to their boxes" in task.protocol


def test_the_box_crops_the_query_and_not_the_database(oxford: Path) -> None:
    task = configured("oxford", oxford).task()
    row = task.database.ids.index("all_souls_000006")
    assert task.database.image(row).size == (240, 240)
    assert task.queries.image(0).size == (210, 214)  # 10.5..220, 12..226.25
    whole = configured("oxford", oxford, crop_query=False).task()
    assert whole.queries.image(0).size == (240, 240)
    assert "boxes" not in whole.protocol


def test_paris_leaves_the_corrupt_images_out(tmp_path: Path) -> None:
    root = make_paris_replica(tmp_path / "paris")
    truth = root / "ground_truth" / "louvre_1_junk.txt"
    truth.write_text(truth.read_text() + "paris_louvre_000136\n")
    data = configured("paris", root)
    task = data.task()
    assert (len(task.database), len(task.queries), data.fit_partner) == (36, 15, "oxford")
    assert "paris_louvre_000136" not in task.database.ids
    assert task.notes == ("left out: 1 officially corrupt",)
    assert len(data.fit_set()) == 36


@pytest.mark.parametrize("place", ["", "jpg", "images", "oxbuild_images", "somewhere/else"])
def test_images_are_found_where_people_keep_them(oxford: Path, tmp_path: Path, place: str) -> None:
    root = tmp_path / "kept"
    shutil.copytree(oxford / "jpg", root / place)
    shutil.copytree(oxford / "ground_truth", root / "gt_files_170407")
    assert len(configured("oxford", root).task().database) == 36


def test_queries_with_missing_images_are_left_out_and_noted(oxford: Path) -> None:
    (oxford / "jpg" / "balliol_000020.jpg").unlink()  # relevant to the five queries of balliol
    (oxford / "jpg" / "radcliffe_camera_000055.jpg").unlink()  # junk
    task = configured("oxford", oxford).task()
    assert len(task.queries) == 10
    assert not any(name.startswith("balliol") for name in task.queries.ids)
    assert task.subset == 34
    assert task.notes == (
        f"2 images that the ground truth names are not in {oxford}",
        "5 of 15 queries left out: not all their images are here",
    )


def test_fitting_needs_no_ground_truth(oxford: Path) -> None:
    shutil.rmtree(oxford / "ground_truth")
    data = configured("oxford", oxford)
    assert len(data.fit_set()) == 36
    with pytest.raises(InputError, match="no ground truth of oxford"):
        data.task()


def test_folders_that_hold_no_oxford_are_named(tmp_path: Path) -> None:
    root = tmp_path / "oxford"
    data = configured("oxford", root)
    with pytest.raises(InputError, match=f"{root}: no such folder; expected there: the oxford images"):
        data.task()
    root.mkdir()
    with pytest.raises(InputError, match=f"{root}: no image in this folder; expected there"):
        data.task()
    (root / "one.jpg").write_bytes(jpeg(view(0, 0)))
    with pytest.raises(InputError, match=f"{root}: only one image"):
        data.task()
    (root / "two.jpg").write_bytes(jpeg(view(0, 1)))
    make_oxford_replica(tmp_path / "other")
    shutil.copytree(tmp_path / "other" / "ground_truth", root / "gt")
    with pytest.raises(InputError, match="none of the 15 queries of oxford has all its images"):
        data.task()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "file", "size", "notes"),
    [("oxford", "oxford5k", 5062, ()), ("paris", "paris6k", 6392, ("left out: 20 officially corrupt",))],
)
def test_the_real_matlab_truth_gives_the_official_sizes(
    shared: Path, tmp_path: Path, name: str, file: str, size: int, notes: tuple[str, ...]
) -> None:
    """One small picture under each of the official names: everything but the pixels is real."""
    shutil.copy(shared / "data" / "ground_truth" / f"gnd_{file}.mat", tmp_path)
    data = configured(name, tmp_path)
    picture = tmp_path / "picture"
    picture.write_bytes(jpeg(view(0, 0, side=16)))
    assert data.truth().images is not None
    for image in (*data.truth().images, *data.corrupt):  # type: ignore[misc]
        (tmp_path / f"{image}.jpg").hardlink_to(picture)
    data.prepare()  # neither network nor text files are needed
    task = data.task()
    assert (len(task.database), len(task.queries), task.subset, task.notes) == (size, 55, None, notes)
    own = [task.database.sources.index(source) for source in task.queries.sources]
    assert all(row in truth.relevant for row, truth in zip(own, task.relevance, strict=True))
    assert all(np.intersect1d(truth.relevant, truth.junk).size == 0 for truth in task.relevance)
