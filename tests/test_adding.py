"""docs/adding.md: its files are written into an empty folder, and its commands add, train and measure."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest

import niphash
from niphash.errors import InputError
from tests.photos import write_objects
from tests.programs import run_program

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "adding.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_objects(tmp_path / "photos", objects=10, views=3)
    return tmp_path


def follow(place: Path, title: str) -> str:
    """Write the files of a section, run its commands as they stand, and return what they print."""
    section = SECTIONS[title]
    for text in (*blocks(section, "python"), *blocks(section, "yaml")):
        name, _, content = text.partition("\n")
        path = place / name.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(place), str(Path(niphash.__file__).parents[1])]),
        "NIPHASH_DATA": str(place / "data"),
    }
    [commands] = blocks(section, "sh")
    printed = ""
    for command in commands.splitlines():
        program, *words = shlex.split(command)
        done = run_program(program, words, place, environment, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        printed += done.stdout
    return printed


def metrics(place: Path) -> dict:
    [path] = place.glob("runs/**/metrics.json")
    return json.loads(path.read_text())


def test_every_section_is_followed_here():
    assert set(SECTIONS) == {
        *("A pooling", "A closed-form hashing method", "A learnable stage", "A data set"),
        *("An index", "A metric", "A study"),
    }


def test_a_pooling_trains_and_its_model_is_measured_where_it_is_trusted(place: Path):
    printed = follow(place, "A pooling")
    assert printed.count("code (16 bits") == 2  # trained, then evaluated
    with pytest.raises(InputError, match=r"own\.Spread"):
        niphash.load(place / "runs" / "spread")


@pytest.mark.parametrize("title", ["A closed-form hashing method", "A learnable stage"])
def test_a_hashing_method_trains_and_is_measured(place: Path, title: str):
    follow(place, title)
    entry = metrics(place)
    assert 0.3 < entry["code"]["mAP"] <= 1
    assert entry["bits"] == 16


def test_a_data_set_is_measured_on(place: Path):
    follow(place, "A data set")
    entry = metrics(place)
    assert (entry["data"], entry["images"]["queries"]) == ("halves", 30)
    assert entry["descriptor"]["mAP"] > 0.5


def test_an_index_is_asked(place: Path):
    assert "30 queries for 10 of 30 codes" in follow(place, "An index")
    assert metrics(place)["index"]["kind"] == "LoggedIndex"


def test_a_metric_is_computed_with_its_interval(place: Path):
    follow(place, "A metric")
    code = metrics(place)["code"]
    precision, recall = code["precision@5"], code["recall@10"]
    assert 0 < code["f1@5"] <= 1
    assert code["intervals"]["f1@5"][0] <= code["f1@5"] <= code["intervals"]["f1@5"][1]
    assert precision > 0
    assert recall > 0


def test_a_study_leaves_its_table(place: Path):
    follow(place, "A study")
    assert (place / "runs" / "lengths" / "lengths.csv").read_text().startswith("bits,mAP\n8,")
