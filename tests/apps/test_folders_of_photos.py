"""Folders as people have them: strange names, broken photos, thumbnails, links, through whole runs."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from niphash.collection.collection import Collection
from niphash.data.names import native_name
from tests.data.replicas import jpeg, view

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("pooling.gaussians=4", "pooling.local_dim=16", "backbone.limit=200", "hashing=itq", "bits=8")
STRANGE = ("obj a=1,b[2]", "naïve日本", "with\nnewline", "${oc.env:HOME}", os.fsdecode(b"latin\xe9"))


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "NIPHASH_DATA": str(cwd / "niphash_data"),
        "COLUMNS": "120",
        "PYTHONIOENCODING": "ascii",  # a terminal that cannot show the names
    }
    done = subprocess.run(
        [sys.executable, "-m", "niphash.apps.cli", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on photos under strange names, one broken, with thumbnails and a linked folder among them."""
    work = tmp_path_factory.mktemp("strange")
    photos = work / "photos"
    for subject, name in enumerate(STRANGE[:-1]):
        (photos / name).mkdir(parents=True)
        for number in range(3):
            (photos / name / f"v {number}=,[{number}].JPG").write_bytes(jpeg(view(subject, number)))
    (work / "elsewhere").mkdir()
    for number in range(3):
        name = os.fsdecode(b"p\xe9%d.jpg" % number)
        (work / "elsewhere" / name).write_bytes(jpeg(view(4, number)))
    (photos / STRANGE[-1]).symlink_to(work / "elsewhere")
    (photos / STRANGE[0] / "@eaDir").mkdir()
    view(0, 0).resize((20, 20)).save(photos / STRANGE[0] / "@eaDir" / "t.jpg")
    (photos / STRANGE[0] / "cut.jpg").write_bytes(jpeg(view(0, 3))[:3000])
    run("train", "data=folder", f"data.root={photos}", *SMALL, "hydra.run.dir=run", cwd=work)
    return work


def test_every_photo_of_a_run_is_found_again(work: Path) -> None:
    with (work / "run" / "per_query_code.csv").open(newline="", encoding="utf-8") as file:
        names = [native_name(row["query"]) for row in csv.DictReader(file)]
    assert len(names) == 15
    assert all((work / "photos" / name).is_file() for name in names)
    assert {name.split("/")[0] for name in names} == set(STRANGE)
    assert Image.open(work / "run" / "ranking.png").width > 100


def test_a_broken_photo_that_is_query_and_database_image_is_counted_once(work: Path) -> None:
    entry = json.loads((work / "run" / "metrics.json").read_text())
    assert (entry["images"]["read"], entry["images"]["skipped"]) == (15, 1)
    (skipped,) = entry["images"]["skipped_files"]
    assert skipped["id"] == "obj a=1,b[2]/cut.jpg"
    assert entry["notes"] == ["5 objects, 16 queries, 0 distractors", "left out: 1 in @eaDir"]


def test_a_broken_photo_under_a_querys_name_is_counted_once(work: Path, tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    for number in range(6):
        (tmp_path / "db" / f"{number}.jpg").write_bytes(jpeg(view(number // 3, number % 3)))
    (tmp_path / "db" / "0.jpg").write_bytes(b"")
    (tmp_path / "alone.jpg").write_bytes(b"")
    (tmp_path / "queries.csv").write_text("query,image\nq0,db/0.jpg\nq1,db/3.jpg\ndb/4.jpg,alone.jpg\n")
    (tmp_path / "relevance.csv").write_text("query,image\nq0,db/1.jpg\nq1,db/4.jpg\ndb/4.jpg,db/5.jpg\n")
    run(
        "evaluate",
        f"model={work / 'run' / 'model'}",
        "data=folder",
        f"data.root={tmp_path}",
        "hydra.run.dir=out",
        cwd=tmp_path,
    )
    images = json.loads((tmp_path / "out" / "metrics.json").read_text())["images"]
    assert [photo["id"] for photo in images["skipped_files"]] == ["alone.jpg", "db/0.jpg"]
    assert (images["read"], images["skipped"]) == (5, 2)


def test_an_index_says_what_it_took_and_names_files_that_are_there(work: Path) -> None:
    done = run("index", str(work / "photos"), "--model", "run/model", "--out", "index", cwd=work)
    assert "15 photos; left out: 1 in @eaDir, 1 truncated" in done.stdout
    with Collection(work / "index") as collection:
        paths = [collection.path(number) for number in collection.manifest.ids()]
    assert len(paths) >= 15
    assert all(path.is_file() for path in paths)
    assert {path.parent.name for path in paths} == set(STRANGE)


def test_verify_says_what_it_took(work: Path) -> None:
    environment = {**os.environ, "NIPHASH_DATA": str(work / "niphash_data")}
    command = [sys.executable, "-m", "niphash.apps.cli", "data", "verify", "folder", "--root", "photos"]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "folder: 15 photos; left out: 1 in @eaDir, 1 truncated" in done.stdout


@pytest.mark.parametrize("command", ["index", "describe"])
def test_out_follows_no_link(work: Path, tmp_path: Path, command: str) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (out / "model").symlink_to(outside)
    words = [command, str(work / "photos"), "--model", str(work / "run/model"), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "niphash.apps.cli", *words],
        cwd=tmp_path,
        env={**os.environ, "NIPHASH_DATA": str(work / "niphash_data")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert "model: is a link, and nothing is written through links" in done.stderr
    assert not list(outside.iterdir())
