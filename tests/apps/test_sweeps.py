"""Sweeps: every run ends on its own, a table is made of them, Optuna chooses by held-out views."""

import csv
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from niphash.apps.run_folder import RunFolder, claim
from niphash.apps.search_spaces import SPACES
from niphash.config import compose, conf_dir
from niphash.errors import InputError
from niphash.pipeline.run_folders import find_runs
from niphash.pipeline.sweeps import report_sweep
from tests.apps.test_programs import ROOT, SMALL, run
from tests.model_folders import write_run_folder


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, object_folder: Path) -> tuple[Path, str, str]:
    """A sweep over four methods, of which the second cannot be fitted: its folder, and what it printed."""
    work = tmp_path_factory.mktemp("sweep")
    data = ("data=folder", f"data.root={object_folder}", *SMALL[:3], "bits=16")
    words = ("-m", *data, "hashing=itq,pq,lsh,none", "hydra.sweep.dir=sweep")
    done = run("train.py", *words, cwd=work, expect=2)
    return work / "sweep", done.stdout, done.stderr


def test_a_run_that_fails_ends_no_sweep_and_is_listed_last(sweep: tuple[Path, str, str]):
    folder, _, errors = sweep
    assert [path.parent.name for path in sorted(folder.glob("*/metrics.json"))] == ["0", "2", "3"]
    end = errors[errors.index("1 of 4 runs did not end well:") :]
    assert "run 1 (hashing=pq): 36 fit descriptors are too few for hashing=pq" in end
    assert "Traceback" not in errors


def test_a_sweep_leaves_a_table_of_its_runs_and_a_picture(sweep: tuple[Path, str, str]):
    folder, printed, _ = sweep
    rows = table(folder)
    assert [(row["run"], row["hashing"], row["of"]) for row in rows] == [
        ("0", "itq", "code"),
        ("1", "pq", ""),
        ("2", "lsh", "code"),
        ("3", "none", "descriptor"),
    ]
    for row in (rows[0], rows[2]):
        entry = json.loads((folder / row["run"] / "metrics.json").read_text())
        assert float(row["value"]) == entry["code"]["mAP"]
        assert [float(row["low"]), float(row["high"])] == entry["code"]["intervals"]["mAP"]
    difference = float(rows[2]["value"]) - float(rows[0]["value"])
    assert float(rows[2]["difference"]) == pytest.approx(difference)
    assert float(rows[2]["difference_low"]) <= difference <= float(rows[2]["difference_high"])
    assert rows[2]["against"] == "0"
    assert "too few" in rows[1]["error"]
    assert "lsh" in printed
    assert np.asarray(Image.open(folder / "sweep.png").convert("L")).std() > 5  # no blank paper


def test_compare_makes_the_table_of_a_sweep_again(sweep: tuple[Path, str, str], tmp_path: Path):
    folder = sweep[0]
    words = ("compare", str(folder), "--metric", "recall@10", "--reference", "2", "--out", "again")
    done = run("niphash", *words, cwd=tmp_path)
    rows = table(tmp_path / "again")
    assert [row["metric"] for row in rows] == ["recall@10", "", "recall@10", "recall@10"]
    assert [row["against"] for row in rows] == ["2", "", "", "2"]
    assert "recall@10" in done.stdout
    wrong = run("niphash", "compare", str(folder), "--metric", "mAB", cwd=tmp_path, expect=2)
    assert "metric=mAB: no run measured it; choose one of" in wrong.stderr


def test_compare_takes_runs_by_name(sweep: tuple[Path, str, str], tmp_path: Path):
    runs = [str(sweep[0] / name) for name in "02"]
    done = run("niphash", "compare", *runs, "--metric", "hit_rate@1", "--out", "pair", cwd=tmp_path)
    assert "hashing=itq" in done.stdout
    [comparison] = [
        one for one in json.loads((tmp_path / "pair/comparison.json").read_text()) if one["what"] == "code"
    ]
    assert comparison["metric"] == "hit_rate@1"


def test_optuna_chooses_on_views_of_held_out_photos(object_folder: Path, tmp_path: Path):
    pytest.importorskip("optuna", reason="pip install niphash[optuna]")
    small = (*SMALL[:3], "bits=16", "data.photos=8", "hydra.sweep.dir=search", "hydra.sweeper.n_trials=3")
    words = ("hparams_search=optuna", f"data.root={object_folder}", "hashing=itq", *small)
    run("train.py", *words, cwd=tmp_path)
    rows = table(tmp_path / "search")
    assert [row["measured_on"] for row in rows] == ["views"] * 3
    tried = [int(row["hashing.iterations"]) for row in rows]
    assert all(10 <= value <= 100 for value in tried)
    assert len(set(tried)) > 1
    best = (tmp_path / "search" / "optimization_results.yaml").read_text()
    assert float(best.rsplit("best_value: ")[1]) == max(float(row["value"]) for row in rows)


def test_a_sweeper_never_chooses_by_test_photos(object_folder: Path, tmp_path: Path):
    pytest.importorskip("optuna", reason="pip install niphash[optuna]")
    words = ("hparams_search=optuna", "data=folder", f"data.root={object_folder}", "hashing=itq")
    more = ("hydra.sweeper.n_trials=1", "hydra.sweep.dir=search")
    done = run("train.py", *words, *more, *SMALL[:3], "bits=16", cwd=tmp_path, expect=2)
    assert "data=folder: this sweeper chooses options by what it measures" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: every run of this sweep failed")
    assert not (tmp_path / "niphash_data" / "descriptors").exists()


def test_every_space_is_of_options_that_its_method_has():
    known = {path.stem for path in (conf_dir() / "hashing").glob("*.yaml")}
    assert set(SPACES) <= known
    for method, space in SPACES.items():
        cfg = compose([f"hashing={method}"])
        for option in space:
            part, _, key = option.partition(".")
            assert key in cfg[part], (method, option)


def test_an_objective_that_is_no_metric_is_refused_before_any_work(object_folder: Path, tmp_path: Path):
    data = ("data=folder", f"data.root={object_folder}", *SMALL, "objective=accuracy")
    done = run("train.py", *data, cwd=tmp_path, expect=2)
    assert "objective=accuracy: no such metric" in done.stderr
    assert not (tmp_path / "niphash_data" / "descriptors").exists()


def test_damaged_and_foreign_folders_end_in_one_sentence(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert "holds no run" in run("niphash", "compare", "empty", cwd=tmp_path, expect=2).stderr
    write_run_folder(tmp_path / "sweep" / "0", {"bits": "16"}, {"mAP": 0.5})
    (tmp_path / "sweep" / "0" / "metrics.json").write_text('{"data": "../x", "descriptor": {}}')
    done = run("niphash", "compare", "sweep", cwd=tmp_path, expect=2)
    assert "metrics.json: no metrics of a run" in done.stderr


def test_runs_are_in_the_order_of_their_numbers(tmp_path: Path):
    for number in (10, 9, 2):
        write_run_folder(tmp_path / str(number), {"bits": str(number)}, {"mAP": 0.5})
    assert [found.folder.name for found in find_runs([tmp_path])] == ["2", "9", "10"]


def test_what_a_launcher_sends_to_its_processes_holds_no_lock(tmp_path: Path):
    folder = RunFolder()
    folder._claim(str(tmp_path / "run"))
    sent = pickle.loads(pickle.dumps(folder))
    sent._release()
    with pytest.raises(InputError, match="another run is writing here"):
        claim(tmp_path / "run")  # the sender has it still
    folder._release()


def test_a_grid_over_two_options_and_data_sets_is_compared_and_drawn(tmp_path: Path, capsys):
    grid = [(method, bits) for method in ("itq", "rbm") for bits in (16, 32, 128)]
    for number, (method, bits) in enumerate(grid):
        value = (0.3 if method == "itq" else 0.4) + bits / 500
        write_run_folder(
            tmp_path / str(number), {"hashing": method, "bits": str(bits), "data": "folder"}, {"mAP": value}
        )
    (tmp_path / "6" / ".hydra").mkdir(parents=True)
    (tmp_path / "6" / ".hydra" / "overrides.yaml").write_text('["hashing=itq", "bits=12"]')
    (tmp_path / "6" / "error.txt").write_text("bits=12: no code length\n")
    assert report_sweep(tmp_path, "mAP")  # one has failed
    rows = table(tmp_path)
    assert list(rows[0])[:4] == ["run", "hashing", "bits", "data"]
    assert float(rows[5]["difference"]) == pytest.approx(0.1 + 112 / 500)
    assert (tmp_path / "sweep.png").stat().st_size > 10_000
    lines = [line for line in capsys.readouterr().out.splitlines() if "rbm" in line or "itq" in line]
    assert "128" in lines[0]  # the best first
    assert "rbm" in lines[0]
    assert "failed" in lines[-1]  # and those that failed last


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_run_a_sweep_in_processes_of_their_own(launcher: str, object_folder: Path, tmp_path: Path):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    words = ["-m", f"hydra/launcher={launcher}", "data=folder", f"data.root={object_folder}", *SMALL[:3]]
    more = ["hashing=itq,pq", "bits=16", "hydra.sweep.dir=sweep"]
    environment = {**os.environ, "NIPHASH_DATA": str(tmp_path / "niphash_data")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words, *more],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "1 of 2 runs did not end well" in done.stderr
    assert [bool(row["value"]) for row in table(tmp_path / "sweep")] == [True, False]
