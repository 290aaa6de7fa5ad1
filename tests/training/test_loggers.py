"""metrics.csv: one file for all processes and runs that write to it."""

import csv
import pickle
import resource
import signal
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


def test_what_a_kill_left_of_a_line_goes_and_the_others_stay(tmp_path):
    CSVLogger(str(tmp_path)).log_metrics({"a": 1.0, "loss": 1.0}, 0)
    path = tmp_path / "csv" / "metrics.csv"
    with path.open("a") as file:
        file.write("2.0,0.")
    CSVLogger(str(tmp_path)).log_metrics({"a": 3.0, "loss": 0.5}, 2)
    assert [line["loss"] for line in lines(tmp_path)] == ["1.0", "0.5"]
    with path.open("a") as file:
        file.write("4.0,0.25,3,4,5\n")  # two lines run together
    CSVLogger(str(tmp_path)).log_metrics({"new": 1.0}, 3)
    assert [line["loss"] for line in lines(tmp_path)] == ["1.0", "0.5", ""]


def test_a_line_that_does_not_fit_is_written_whole_later(tmp_path):
    logger = CSVLogger(str(tmp_path))
    logger.log_metrics({"loss": 1.0}, 0)
    path = tmp_path / "csv" / "metrics.csv"
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 3, limits[1]))
        logger.log_metrics({"loss": 0.5}, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [line["loss"] for line in lines(tmp_path)] == ["1.0"]
    logger.log_metrics({"loss": 0.25}, 2)
    assert [line["loss"] for line in lines(tmp_path)] == ["1.0", "0.5", "0.25"]
