"""Options that cannot be used end in one sentence, before any work; nothing that can be quoted is lost."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

import niphash
from niphash.apps.session import INPUT_ERROR, run_hydra, user_errors
from niphash.config import compose
from niphash.errors import InputError
from niphash.pipeline.run import assemble
from tests.programs import ROOT, run_program

MODEL = ROOT / "tests" / "models" / "fisher_itq"


def refusal(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> str:
    """Return the sentence with which the training refuses its arguments before it is started."""
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_hydra(lambda: pytest.fail("started"), "train")
    assert ended.value.code == INPUT_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    "value", ["/p/a=b", "/p/a,b", "/p/a[b", "/p/a]b", "/p/{a", "/p/a b,c", '/p/a"=b', "/p/a\\b=c", "/p/(a"]
)
def test_a_value_that_hydra_cannot_read_is_shown_quoted(value: str, monkeypatch, capsys):
    line = refusal([f"data.root={value}"], monkeypatch, capsys)
    quoted = line.rpartition("quote a single one, '")[2].removesuffix("'")
    assert OverridesParser.create().parse_override(quoted).value() == value


def test_a_home_folder_is_shown_as_the_shell_would_write_it(monkeypatch, capsys):
    monkeypatch.setenv("HOME", "/home/ada")
    line = refusal(["data.root=~/photos"], monkeypatch, capsys)
    assert line.endswith("quote a single one, 'data.root=\"/home/ada/photos\"'")


def test_flags_may_stand_between_overrides(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=0,1", "-m", "bits=32"])
    run_hydra(lambda: None, "train")
    assert sys.argv == ["train.py", "-m", "seed=0,1", "bits=32"]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["hashing=nope"], "error: hashing=nope: choose one of bihalf, "),
        (["nokey=3"], "error: Could not override 'nokey'"),
        (["fit.limit=abc"], "error: fit.limit=abc: give a whole number"),
        (["bits=[8]"], "error: bits=[8]: give a code length"),
        (["hydra.run.dir=file"], "error: file: cannot be written"),
        (["hydra.run.dir=file/run"], "error: file/run: cannot be written"),
        (["paths.data_dir=file"], "error: file: cannot be written (file is a file)"),
        (
            ["hydra.run.dir=run", "-m", "seed=-1"],
            "a sweep writes to numbered folders in multirun/",
        ),
    ],
)
def test_the_program_says_it_in_one_line(overrides: list[str], named: str, tmp_path: Path):
    (tmp_path / "file").touch()
    done = run_program("train.py", overrides, tmp_path, os.environ)
    assert done.returncode == INPUT_ERROR, done.stderr
    assert done.stderr.startswith(named)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "override",
    ["backbone.limit=abc", "backbone.edge=[1]", "pooling.gaussians={a:1}", "descriptor.batch_size=abc",
     "views.rotate_query=abc", "data.root=[a]"],
)  # fmt: skip
def test_a_value_of_another_kind_is_named_with_its_option(override: str, tmp_path: Path):
    config = compose(["data=folder", "data.root=photos", override])
    with pytest.raises(InputError, match=override.partition("=")[0]):
        assemble(config, tmp_path).describer  # noqa: B018 - built when asked for


@pytest.mark.parametrize(
    "photo", [b"\xff\xd8", torch.zeros(3, 8, 8), np.zeros((0, 10), np.uint8), 7, [[1, 2]], {"a": 1}]
)
def test_what_is_no_picture_is_refused_by_kind(photo: object):
    with pytest.raises(InputError, match="is no picture"):
        niphash.load(MODEL).hash(photo)


def test_photos_within_our_own_limit_bring_no_warnings(recwarn):
    with user_errors():
        Image.new("L", (9600, 9600)).crop((0, 0, 9600, 9600))  # more pixels than Pillow warns of
    assert not [warning for warning in recwarn if "exceeds limit" in str(warning.message)]


def test_an_interrupted_command_says_how_to_go_on(capsys):
    with pytest.raises(SystemExit) as ended, user_errors():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert "hydra" not in capsys.readouterr().err
