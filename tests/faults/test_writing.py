"""What cannot be written is named, and what was computed is not lost with it."""

import json
import logging
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from niphash.apps.ranking import describe, rank
from niphash.apps.run_folder import claim
from niphash.config import compose
from niphash.errors import InputError
from niphash.model import load
from niphash.pipeline.run import assemble
from niphash.pipeline.training import train
from niphash.training.loggers import CSVLogger
from tests.apps.test_programs import ROOT, SMALL
from tests.programs import run_program

MODEL = ROOT / "tests" / "models" / "fisher_itq"
#: Largest file, in bytes, while the disk is "full".
LIMIT = 2000


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond a few bytes, which a process is told as it is told of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_model_that_was_there_survives_a_full_disk(tmp_path: Path, full_disk: None):
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    folder = load(MODEL).save(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
    with pytest.raises(InputError, match=r"model: cannot be written \(.*too large"):
        load(MODEL).save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_store_on_a_full_disk_is_named(tmp_path: Path, make_objects, full_disk: None):
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    photos = make_objects(2, 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
    with pytest.raises(InputError, match=f"{tmp_path / 'store'}.*: cannot be written"):
        describe(str(photos), str(MODEL), str(tmp_path / "store"), "float32")
    assert not list(tmp_path.glob("store/*/*"))


def test_numbers_are_printed_although_nothing_can_be_written(
    object_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    overrides = ["data=folder", f"data.root={object_folder}", f"paths.data_dir={tmp_path / 'data'}"]
    run = assemble(compose([*overrides, *SMALL]), tmp_path / "run")
    (tmp_path / "run" / "metrics.json").mkdir(parents=True)  # in the way of a file
    (tmp_path / "run" / "model").touch()
    with pytest.raises(InputError, match=r"run.*: cannot be written"):
        train(run)
    assert "│ mAP" in capsys.readouterr().out


@pytest.mark.parametrize("out", ["folder", "missing/lists.txt"])
def test_ranked_lists_are_refused_before_any_work(out: str, tmp_path: Path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=f"{out}: cannot be written .*--out"):
        rank("no model", ["folder"], None, "auto", str(tmp_path / out))


def test_a_store_below_a_file_is_refused_before_any_work(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/store: cannot be written .*--out"):
        describe("no photos", "no model", str(tmp_path / "file" / "store"), "float32")


def test_a_store_keeps_its_dtype(tmp_path: Path, make_objects):
    photos = str(make_objects(2, 2))
    describe(photos, str(MODEL), str(tmp_path / "store"), "float32")
    with pytest.raises(InputError, match="holds float32 descriptors; choose --dtype float32"):
        describe(photos, str(MODEL), str(tmp_path / "store"), "float16")


def test_a_curve_that_cannot_be_written_ends_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    logger = CSVLogger(str(tmp_path))
    logger.log_metrics({"loss": 1.0}, 0)
    lines = tmp_path / "csv" / "metrics.csv"
    kept = lines.read_text()
    lines.unlink()
    lines.mkdir()
    with caplog.at_level(logging.WARNING):
        logger.log_metrics({"loss": 0.5}, 1)
        logger.log_metrics({"loss": 0.25}, 2)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [str(lines)]
    lines.rmdir()
    lines.write_text(kept)
    logger.log_metrics({"loss": 0.125}, 3)
    assert [line.split(",")[0] for line in lines.read_text().split()] == [
        "loss",
        "1.0",
        "0.5",
        "0.25",
        "0.125",
    ]


def test_two_runs_do_not_share_a_folder(tmp_path: Path):
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    kept = tmp_path / "run" / ".hydra" / "config.yaml"
    kept.write_text(yaml.safe_dump({"seed": 5}))
    lock = claim(tmp_path / "run")
    done = run_program("train.py", ["hydra.run.dir=run", "seed=6"], tmp_path, os.environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: run: another run is writing here; wait until it has ended, or choose another hydra.run.dir\n"
    )
    assert yaml.safe_load(kept.read_text()) == {"seed": 5}
    lock.release()


def test_a_changed_record_of_a_model_is_refused(tmp_path: Path):
    folder = load(MODEL).save(tmp_path / "model")
    record = json.loads((folder / "model.json").read_text())
    renamed = {("formt" if key == "format" else key): value for key, value in record.items()}
    for changed in (record | {"seed": 17}, record | {"format": 2}, record | {"format": 1}, renamed):
        (folder / "model.json").write_text(json.dumps(changed))
        with pytest.raises(InputError, match=r"model.json: damaged, or changed by hand"):
            load(folder)
