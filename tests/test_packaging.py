"""The wheel holds all that the program needs, wherever it is installed; searching needs little beside it."""

import json
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.photos import write_objects

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODEL = ROOT / "tests" / "models" / "fisher_itq"
#: A training run of some seconds.
SMALL = ["data=folder", "data.root=photos", "hashing=lsh", "pooling.gaussians=4", "pooling.local_dim=8"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = folder.glob("*.whl")
    return path


def files_below(folder: Path, *suffixes: str) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix in suffixes}


def distribution(requirement: str) -> str:
    """Return the name in ``"opencv-python-headless>=4.10"``."""
    return re.split(r"[\[<>=~!;]", requirement)[0].strip().lower()


def requirements(path: Path) -> set[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return {line for line in lines if line}


def test_the_wheel_holds_every_module_every_choice_and_the_page(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    conf = {f"niphash/conf/{name}" for name in files_below(ROOT / "conf", ".yaml")}
    source = files_below(ROOT / "src", ".py", ".css", ".csv", ".html", ".js", ".svg", ".typed")
    assert conf
    assert conf | source <= inside
    assert not {name for name in inside if name.startswith(("tests/", "docs/")) or name.endswith(".pyc")}


def test_an_unpacked_wheel_finds_its_configuration(wheel: Path, tmp_path: Path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = (
        "from niphash.config import compose, conf_dir\n"
        "print(conf_dir()); print(compose(['hashing=itq', 'data=oxford']).hashing._target_)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    words = [sys.executable, "-c", program]
    printed = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert printed == [str(tmp_path / "site" / "niphash" / "conf"), "niphash.hashing.ITQ"]


def test_every_extra_that_is_documented_is_there():
    extras = PROJECT["optional-dependencies"]
    assert {"serve", "onnx", "timm", "heif", "optuna", "docs", "dev", "notebook"} <= set(extras)
    pinned = {distribution(line).replace("_", "-") for line in requirements(ROOT / "constraints.txt")}
    everything = [*PROJECT["dependencies"], *(r for e in extras.values() for r in e)]
    wanted = {distribution(r).replace("_", "-") for r in everything} - {"niphash"}
    unpinned = wanted - pinned
    assert unpinned == set(), f"not pinned in constraints.txt: {unpinned}"


def test_what_searching_needs_is_a_part_of_what_the_whole_needs():
    assert requirements(ROOT / "requirements-search.txt") <= set(PROJECT["dependencies"])


def test_searching_imports_nothing_beyond_its_list(tmp_path: Path):
    """An index is made, searched and checked where all other dependencies cannot be imported."""
    write_objects(tmp_path / "photos", objects=3, views=2)
    needed = {distribution(r) for r in requirements(ROOT / "requirements-search.txt")}
    others = {distribution(r) for r in PROJECT["dependencies"]} - needed
    assert {"pytorch-lightning", "wandb", "torchmetrics", "matplotlib", "scikit-learn"} <= others
    modules = {
        module
        for module, names in packages_distributions().items()
        if {name.lower().replace("_", "-") for name in names} & others
    }
    assert {"pytorch_lightning", "wandb", "sklearn"} <= modules
    program = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(modules)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from niphash.apps.cli import main
for words in (["index", "photos", "--model", {str(MODEL)!r}, "--out", "my.index"],
              ["search", "my.index", "photos/object01/view0.jpg", "-k", "2", "--json"],
              ["duplicates", "my.index"], ["info", "my.index"], ["check", "my.index"]):
    main(words)
"""
    environment = {**os.environ, "NIPHASH_DATA": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "photos/object01/view0.jpg" in done.stdout
    assert "whole, 6 photos" in done.stdout


def run(program: Path, *words: str, cwd: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [str(program), *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_an_installed_wheel_trains_searches_and_serves_from_any_folder(wheel: Path, tmp_path: Path):
    """The whole is installed from the wheel into an empty environment, some gigabytes with PyTorch."""
    venv.create(tmp_path / "venv", with_pip=True)
    binaries, place = tmp_path / "venv" / "bin", tmp_path / "place"
    place.mkdir()
    environment = {key: word for key, word in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"NIPHASH_DATA": str(tmp_path / "data"), "WANDB_MODE": "offline"}
    pip = [str(binaries / "python"), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, f"{wheel}[serve]"], env=environment, check=True, timeout=1800)
    write_objects(place / "photos", objects=6, views=3)
    options = {"cwd": place, "environment": environment}
    niphash = binaries / "niphash"
    home = run(binaries / "python", "-c", "import niphash; print(niphash.__file__)", **options)
    assert home.startswith(str(tmp_path / "venv"))
    run(niphash, "train", *SMALL, "hydra.run.dir=runs/first", **options)
    trained = json.loads((place / "runs" / "first" / "metrics.json").read_text())
    run(niphash, "evaluate", "model=runs/first/model", "data=folder", "data.root=photos", **options)
    [again] = set((place / "runs").rglob("metrics.json")) - {place / "runs" / "first" / "metrics.json"}
    assert json.loads(again.read_text())["code"]["mAP"] == pytest.approx(trained["code"]["mAP"])
    run(niphash, "index", "photos", "--model", "runs/first/model", "--out", "my.index", **options)
    found = json.loads(run(niphash, "search", "my.index", "photos/object02/view1.jpg", "--json", **options))
    assert found[0]["matches"][0]["itself"]
    server = subprocess.Popen(
        [str(niphash), "serve", "my.index", "--port", "0"],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address is not None
        with urlopen(f"{address[0]}health", timeout=60) as answer:
            assert answer.status == 200
    finally:
        server.terminate()
        server.wait(30)
    assert {path.name for path in place.iterdir()} <= {"photos", "runs", "my.index", "outputs"}
