"""What a run is called on a dashboard."""

import json
from pathlib import Path

from niphash.config import compose
from niphash.pipeline.labels import run_labels
from niphash.pipeline.run import assemble

OPEN = {"name": None, "group": None, "job_type": None, "project": "niphash"}


def labels(folder: Path, overrides: list[str], node: dict | None = None, **choices: str) -> dict[str, str]:
    if overrides:
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    return run_labels(assemble(compose(overrides), folder, choices), OPEN if node is None else node)


def test_a_run_is_named_by_what_it_was_asked_for_and_not_by_its_places(tmp_path: Path):
    found = labels(tmp_path / "run", ["hashing=itq", "bits=32", "paths.data_dir=/photos", "logger=wandb"])
    assert found == {"name": "hashing=itq bits=32", "job_type": "hashing"}


def test_a_run_that_was_asked_for_nothing_is_named_by_its_choices(tmp_path: Path):
    found = labels(tmp_path / "run", [], backbone="sift_dog", pooling="fisher", hashing="rbm_stack")
    assert found["name"] == "sift_dog fisher rbm_stack 64 bits"


def test_runs_of_a_sweep_are_a_group_and_keep_their_numbers(tmp_path: Path):
    sweep = tmp_path / "multirun" / "12-00-00"
    sweep.mkdir(parents=True)
    (sweep / "multirun.yaml").touch()
    found = labels(sweep / "3", ["hashing=lsh"])
    assert found["group"] == "multirun/12-00-00"
    assert found["name"] == "3: hashing=lsh"


def test_a_study_is_a_type_of_job_and_what_the_user_names_stays(tmp_path: Path):
    named = {**OPEN, "name": "mine"}
    assert labels(tmp_path / "run", ["experiment=bits"], named) == {"job_type": "bits"}
    assert labels(tmp_path / "other", ["hashing=itq"], {"save_dir": None}) == {}
