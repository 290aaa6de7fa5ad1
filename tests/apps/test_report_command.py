"""``niphash report`` is a way to write ``niphash train experiment=report``."""

import pytest

from niphash.apps.cli import _report_overrides


def test_options_become_overrides():
    words = [
        "--data",
        "ukbench",
        "data.root=a b",
        "--only",
        "rotation,methods",
        "seed=1",
        "--weights",
        "it's=x",
    ]
    assert _report_overrides(words) == [
        "experiment=report",
        "data=ukbench",
        "study.effort=quick",
        r"study.weights='it\'s=x'",
        "study.only=[rotation,methods]",
        "hydra.run.dir='report-ukbench'",
        "data.root=a b",
        "seed=1",
    ]


@pytest.mark.parametrize(
    "words", [[], ["--data", "sample", "--effort", "much"], ["--data", "sample", "--no"]]
)
def test_other_options_end_with_status_2(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        _report_overrides(words)
    assert end.value.code == 2
    assert "niphash report" in capsys.readouterr().err
