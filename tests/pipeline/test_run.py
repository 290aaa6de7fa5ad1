"""From configuration to one run: several data sets, variants, and what is refused before any work."""

from pathlib import Path

import pytest
import torch

from niphash.config import compose
from niphash.errors import InputError
from niphash.pipeline.run import assemble

GPU = pytest.param(
    "trainer=gpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to train on")
)


def run_of(tmp_path: Path, *overrides: str):
    return assemble(compose([f"paths.data_dir={tmp_path}", *overrides]), tmp_path / "run")


@pytest.mark.parametrize(
    "override",
    ["trainer.devices=0", "trainer.devices=abc", "trainer.precision=foo", "trainer.accelerator=foo", GPU],
)
def test_a_trainer_that_cannot_be_made_is_refused_in_one_sentence(override: str, tmp_path: Path):
    with pytest.raises(InputError, match="no trainer can be made") as refused:
        run_of(tmp_path, override).trainer()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "override",
    [
        *(
            "bits=12",
            "bits=0",
            "bits=abc",
            "seed=-1",
            "seed=x",
            "stage=all",
            "ties=random",
            "distance=cosine",
        ),
        *("fit.views=-1", "fit.held_out=1", "fit.limit=0", "fit.limit=abc", "views.pool_database=sum"),
        *("eval_data=ukbench", "eval_data=[]", "eval_data=[nowhere]", "eval_data=[[a]]"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(override: str, tmp_path: Path):
    with pytest.raises(InputError, match=override.partition("=")[0].rpartition(".")[2]) as refused:
        run_of(tmp_path, override)
    assert "\n" not in str(refused.value)


def test_several_data_sets_are_a_list_of_their_own(tmp_path: Path):
    run = run_of(tmp_path, "eval_data=[oxford,{ukbench: /photos/ukb}]", "views.rotate_query=90")
    assert [target.data.name for target in run.targets] == ["oxford", "ukbench"]
    assert [str(target.data.root) for target in run.targets] == [str(tmp_path / "oxford"), "/photos/ukb"]


def test_several_loggers_log_at_once(tmp_path: Path):
    run = run_of(tmp_path, "logger=[csv,tensorboard]")
    assert [type(logger).__name__ for logger in run.loggers] == ["CSVLogger", "TensorBoardLogger"]
    assert run_of(tmp_path, "logger=[]").loggers == []


def test_a_variant_is_another_run_and_leaves_the_first_alone(tmp_path: Path):
    run = run_of(tmp_path, "hashing=lsh", "bits=16")
    other = run.variant(["bits=32", "hashing=itq", "views.pool_database=max"])
    assert (type(run.hasher).__name__, run.hasher.bits, run.targets[0].pooling) == ("LSH", 16, None)
    assert (type(other.hasher).__name__, other.hasher.bits) == ("ITQ", 32)
    assert other.targets[0].pooling.kind == "max"
