"""Progress: where it begins and ends, what is on the terminal and what in the log of the run."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from niphash import progress
from niphash.progress import owned, track


@pytest.fixture
def log_file(tmp_path: Path):
    """The log of a run, as Hydra attaches it."""
    handler = logging.FileHandler(tmp_path / "train.log")
    logging.getLogger().addHandler(handler)
    yield tmp_path / "train.log"
    logging.getLogger().removeHandler(handler)
    handler.close()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch):
    """A clock on which every item takes eight seconds."""
    now = iter(range(0, 10_000, 8))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(now)))


def test_long_work_ends_at_its_end_on_the_terminal_and_in_the_log(slow, log_file: Path, capsys):
    with owned("itq, 32 bits"):
        assert list(track(range(6), "describe", step=10)) == list(range(6))
    shown = capsys.readouterr().err.splitlines()
    assert shown[-1].startswith("itq, 32 bits: describe: 60/60, ")
    assert log_file.read_text().splitlines() == shown


def test_a_bar_ends_at_its_end(slow, log_file: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    list(track(range(6), "describe", step=10))
    assert "60/60" in capsys.readouterr().err
    assert log_file.read_text().splitlines()[-1].startswith("describe: 60/60, ")


def test_work_that_goes_on_begins_where_it_was(slow, log_file: Path, capsys):
    list(track(range(5), "describe", start=20))
    assert capsys.readouterr().err.splitlines()[0].startswith("describe: 22/25, ")
    assert log_file.read_text().splitlines()[-1].startswith("describe: 25/25, ")


def test_work_that_is_stopped_ends_where_it_stands(slow, log_file: Path, capsys):
    steps = track(iter(int, 1), "train layer1", 100)
    for _ in range(4):
        next(steps)
    steps.close()
    assert log_file.read_text().splitlines()[-1].startswith("train layer1: 3/100, ")


def test_short_work_shows_nothing(log_file: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    list(track(range(100), "look up"))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    list(track(range(100), "look up"))
    assert capsys.readouterr() == ("", "")
    assert log_file.read_text() == ""
