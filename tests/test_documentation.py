"""Every command and every Python block of the README and of the docs runs, in order, as it is written there.

Two pages speak of runs at full size, which `make test-all` makes; `make test` makes them small.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from tests.data.replicas import make_oxford_replica, make_paris_replica, make_ukbench_replica
from tests.photos import write_objects
from tests.programs import run_program

ROOT = Path(__file__).resolve().parents[1]
#: docs/adding.md has a test of its own.
PAGES = sorted([ROOT / "README.md", *{*(ROOT / "docs").glob("*.md")} - {ROOT / "docs" / "adding.md"}])


def steps(page: Path) -> list[tuple[str, str]]:
    """Return ("sh", command) and ("python", program) in the order of the page."""
    found = []
    for language, text in re.findall(
        r"^```(sh|python)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    ):
        found += [("python", text)] if language == "python" else [("sh", line) for line in commands(text)]
    return found


def commands(block: str) -> list[str]:
    lines = block.replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the photos that the documentation speaks of."""
    work = tmp_path_factory.mktemp("docs")
    write_objects(work / "photos", objects=12, views=5)
    make_ukbench_replica(work / "ukbench", objects=8)
    make_oxford_replica(work / "data" / "oxford")
    make_paris_replica(work / "data" / "paris")
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_0(weights=None).state_dict(), work / "squeezenet.pt")
    return work


#: Pages whose commands a reader runs as they are, for models that he keeps.
FULL_SIZE = ("README", "collections", "index")


def follow(language: str, command: str, work: Path, environment: dict[str, str], cut: bool) -> None:
    """Run a command or a program of a page, ``cut`` to a size for tests; it must succeed."""
    if language == "python":
        words = [sys.executable, "-c", command]
        done = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True, timeout=600)
    else:
        program, *words = shlex.split(command)
        if program == "python":
            program, *words = words
            words += small(program, words) if cut else []
        done = run_program(program, words, work, environment, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def small(script: str, overrides: list[str]) -> list[str]:
    """Return the overrides that make a training run at full size small."""
    if script != "train.py":
        return []
    extra = ["fit.limit=160"]
    if not any(word.startswith("data=") for word in overrides):
        extra += ["data.objects=12", "data.views=2", "data.distractors=8", "data.fit=160"]
    if not any(word.startswith("backbone=") for word in overrides):
        extra += ["debug=small"]
    if not any(word.startswith("bits=") for word in overrides):
        extra += ["bits=32"]
    return extra


@pytest.mark.parametrize("page", [page for page in PAGES if steps(page)], ids=lambda page: page.stem)
def test_every_command_and_python_block_runs(page: Path, workplace: Path, tmp_path: Path):
    follow_page(page, workplace, tmp_path, cut=page.stem in FULL_SIZE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem in FULL_SIZE], ids=lambda page: page.stem
)
def test_runs_at_full_size_run_as_they_are_written(page: Path, workplace: Path, tmp_path: Path):
    follow_page(page, workplace, tmp_path, cut=False)


def follow_page(page: Path, workplace: Path, tmp_path: Path, cut: bool) -> None:
    workplace = shutil.copytree(workplace, tmp_path / "work")  # a page finds nothing of another
    environment = {**os.environ, "NIPHASH_DATA": str(workplace / "data"), "WANDB_MODE": "offline"}
    for language, command in steps(page):
        if command.startswith("make "):
            continue  # `make test` is what runs this test; `make train` is python train.py
        follow(language, command, workplace, environment, cut)


def test_commands_in_tables_of_the_readme_run_on_the_page_that_their_line_links_to():
    lines = re.findall(
        r"^\| `((?:niphash|python) [^`]+)` \|.*\]\(([^)#]+)", (ROOT / "README.md").read_text(), re.M
    )
    assert len(lines) >= 4
    for command, page in lines:
        own = [text for language, text in steps(ROOT / page) if language == "sh"]
        assert any(" ".join(text.split()).startswith(command) for text in own), f"{page}: {command}"


def test_make_train_runs_the_script():
    # A make above (`make test` under CI) would add its directory lines through these two.
    environment = {key: word for key, word in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
    plan = subprocess.run(
        ["make", "-n", "train"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert plan.splitlines()[-1].endswith("python train.py")


def test_every_linked_file_exists():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
