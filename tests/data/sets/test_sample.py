import json
import multiprocessing
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

from niphash.data.pictures import sample_pictures
from niphash.data.sets import sample
from niphash.data.sets.sample import SampleData
from niphash.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[3]
SMALL = {"objects": 12, "views": 2, "distractors": 9, "fit": 11}


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> SampleData:
    data = SampleData(tmp_path_factory.mktemp("a") / "sample", **SMALL)
    data.prepare()
    return data


def test_two_builds_are_the_same_to_the_byte(built: SampleData, tmp_path: Path) -> None:
    again = SampleData(tmp_path / "elsewhere", **SMALL)
    again.prepare()
    assert contents(again.root) == contents(built.root)


def test_another_seed_draws_other_pictures(built: SampleData, tmp_path: Path) -> None:
    other = SampleData(tmp_path / "sample", **{**SMALL, "objects": 3}, seed=1)
    other.prepare()
    names = [f"{kind}/0000.jpg" for kind in ("references", "queries", "distractors", "fit")]
    assert all((other.root / n).read_bytes() != (built.root / n).read_bytes() for n in names)


def test_task_has_the_counts_and_the_ground_truth(built: SampleData) -> None:
    task = built.task()
    assert (len(task.database), len(task.queries), len(built.fit_set())) == (12 + 9, 24, 11)
    assert len(set(task.database.ids)) == len(task.database)
    assert len({task.database.checksum(i) for i in range(21)}) == 21
    for query, relevance in enumerate(task.relevance):
        assert relevance.junk.size == 0
        assert [task.database.ids[i] for i in relevance.relevant] == [f"references/{query // 2:04d}.jpg"]
    assert "24 random views of 12 flat objects" in task.protocol
    for images in (task.database, task.queries, built.fit_set()):
        for index in range(0, len(images), 5):
            picture = images.image(index)
            assert picture.mode == "RGB"
            assert 90 <= min(picture.size) <= max(picture.size) <= 700


def test_default_counts_fit_the_photographs() -> None:
    cfg = OmegaConf.load(REPOSITORY / "conf/data/sample.yaml")
    assert (cfg.objects, cfg.views, cfg.distractors, cfg.fit) == (64, 5, 320, 600)
    patches = sample_pictures.cut_patches(cfg.objects, cfg.seed)
    assert len(patches.objects) == 64
    assert all(max(patch.shape[:2]) == sample_pictures.SIDE for patch in patches.objects)
    assert min(len(patches.clutter), len(patches.fit)) > 100


def matches(a: np.ndarray, b: np.ndarray) -> int:
    """Count the SIFT matches between two pictures that one homography explains."""
    sift = cv2.SIFT.create()
    points_a, a = sift.detectAndCompute(a, None)
    points_b, b = sift.detectAndCompute(b, None)
    if a is None or b is None or len(a) < 4 or len(b) < 4:
        return 0
    pairs = [m for m, n in cv2.BFMatcher().knnMatch(a, b, k=2) if m.distance < 0.75 * n.distance]
    if len(pairs) < 5:
        return 0
    source = np.array([points_a[m.queryIdx].pt for m in pairs])
    target = np.array([points_b[m.trainIdx].pt for m in pairs])
    _, inliers = cv2.findHomography(source, target, cv2.RANSAC, 4.0)
    if inliers is None:
        return 0
    agreeing = target[inliers.ravel() == 1]
    return len(np.unique(agreeing.round(), axis=0))  # many points that match one are one


def test_the_object_of_a_query_is_that_of_its_reference(built: SampleData) -> None:
    """Geometry tells, which no part of the rendering knows of: most queries verify, none against another."""
    task = built.task()
    cv2.setRNGSeed(0)
    right = wrong = 0
    for query in range(len(task.queries)):
        picture = np.asarray(task.queries.image(query))
        own = int(task.relevance[query].relevant[0])
        right += matches(picture, np.asarray(task.database.image(own))) >= 12
        wrong += matches(picture, np.asarray(task.database.image((own + 5) % 12))) >= 12
    assert right >= 0.7 * len(task.queries)
    assert wrong == 0


def test_no_photograph_serves_two_purposes() -> None:
    photos = sample_pictures.OBJECT_PHOTOS + sample_pictures.CLUTTER_PHOTOS + sample_pictures.FIT_PHOTOS
    assert len(set(photos)) == len(photos)
    pixels = [sample_pictures.read_photo(*photo).tobytes() for photo in photos]
    assert len(set(pixels)) == len(photos)


def test_a_complete_sample_is_left_alone_and_a_harmed_one_is_drawn_again(
    built: SampleData, tmp_path: Path
) -> None:
    root = tmp_path / "sample"
    shutil.copytree(built.root, root)
    before = contents(root)
    times = {p: p.stat().st_mtime_ns for p in root.rglob("*.jpg")}
    SampleData(root, **SMALL).prepare()
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*.jpg")} == times
    (root / "queries/0003.jpg").write_bytes(b"harmed")
    (root / "fit/0000.jpg").unlink()
    SampleData(root, **SMALL).prepare()
    assert contents(root) == before


def test_other_counts_are_drawn_anew(built: SampleData, tmp_path: Path) -> None:
    root = tmp_path / "sample"
    shutil.copytree(built.root, root)
    SampleData(root, **{**SMALL, "objects": 3}).prepare()
    assert len(list((root / "references").iterdir())) == 3


def test_what_a_killed_build_left_does_not_harm(built: SampleData, tmp_path: Path) -> None:
    data = SampleData(tmp_path / "sample", **SMALL)
    (tmp_path / ".sample.partial/references").mkdir(parents=True)
    (tmp_path / ".sample.partial/references/9999.jpg").write_bytes(b"half")
    data.prepare()
    assert contents(data.root) == contents(built.root)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["sample"]


def test_a_folder_with_other_things_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="something other than the sample"):
        SampleData(tmp_path, **SMALL).prepare()
    assert (tmp_path / "holiday.jpg").read_bytes() == b"mine"


def prepare(root: Path) -> None:
    SampleData(root, **SMALL).prepare()


def test_two_processes_draw_one_sample(built: SampleData, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=prepare, args=(tmp_path / "sample",)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert contents(tmp_path / "sample") == contents(built.root)


def test_stamp_records_every_picture(built: SampleData) -> None:
    stamp = json.loads((built.root / sample.STAMP).read_text())
    assert set(stamp["blake2b"]) == set(contents(built.root)) - {sample.STAMP}
    assert stamp["identity"]["seed"] == 0


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("objects", 0, "data.objects=0"), ("objects", 500, "ask for fewer"), ("fit", -1, "data.fit=-1")],
)
def test_impossible_counts_are_refused(tmp_path: Path, key: str, value: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        SampleData(tmp_path / "sample", **{**SMALL, key: value}).prepare()
    assert not (tmp_path / "sample").exists()
