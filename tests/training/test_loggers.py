"""metrics.csv: one file for all processes and runs that write to it."""

import csv
import pickle
from pathlib import Path

from niphash.training.loggers import CSVLogger


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_processes_that_know_nothing_of_each_other_add_to_one_file(tmp_path):
    logger = CSVLogger(str(tmp_path))
    logger.log_hyperparams({"seed": 0})
    for number, stage in enumerate(("layer1", "layer2", "layer1")):
        child = pickle.loads(pickle.dumps(logger))  # what a process that is spawned has
        child.log_metrics({f"{stage}/error": 0.5, "epoch": number}, number)
        child.finalize("success")
    logger.log_metrics({"code/mAP": 0.25}, 0)
    logger.finalize("success")
    found = lines(tmp_path)
    assert list(found[0]) == ["code/mAP", "epoch", "layer1/error", "layer2/error", "step"]
    assert [line["epoch"] for line in found] == ["0", "1", "2", ""]
    assert [line["layer1/error"] for line in found] == ["0.5", "", "0.5", ""]
    assert found[3]["code/mAP"] == "0.25"


def test_a_line_is_on_the_disk_when_it_is_logged(tmp_path):
    CSVLogger(str(tmp_path)).log_metrics({"loss": 1.0}, 3)
    assert lines(tmp_path) == [{"loss": "1.0", "step": "3"}]


def test_a_later_run_deletes_nothing(tmp_path):
    CSVLogger(str(tmp_path)).log_metrics({"loss": 1.0}, 0)
    later = CSVLogger(str(tmp_path))
    later.log_hyperparams({"seed": 1})
    assert len(lines(tmp_path)) == 1
    later.log_metrics({"loss": 0.5}, 1)
    assert [line["loss"] for line in lines(tmp_path)] == ["1.0", "0.5"]


def test_an_empty_file_gets_its_header(tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").touch()
    CSVLogger(str(tmp_path)).log_metrics({"loss": 1.0}, 0)
    assert lines(tmp_path) == [{"loss": "1.0", "step": "0"}]
