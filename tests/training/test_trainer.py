import subprocess
import sys

import pytest

from niphash.config import build, compose
from niphash.errors import InputError
from niphash.training.trainer import DECIDED, check_trainer, stage_trainers


@pytest.mark.parametrize("option", DECIDED)
def test_an_option_that_a_stage_decides_is_refused_with_what_to_set_instead(option):
    with pytest.raises(InputError) as caught:
        build(compose([f"+trainer.{option}=3"]).trainer)
    assert str(caught.value) == f"trainer.{option}=3: {DECIDED[option]}"


@pytest.mark.parametrize("name", ["cpu", "ddp_sim"])
def test_other_options_are_those_of_lightning(name):
    make = build(compose([f"trainer={name}", "+trainer.gradient_clip_val=2.5"]).trainer)
    assert check_trainer(make).gradient_clip_val == 2.5
    with pytest.raises(InputError, match=r"no trainer can be made .*acelerator"):
        check_trainer(stage_trainers(acelerator="cpu"))


def test_two_processes_train_in_silence(tmp_path):
    """Lightning has advice for every process; none of it belongs on the terminal."""
    program = f"""
import numpy as np
from functools import partial
from niphash.hashing import RBMStack
from niphash.training import FitData, stage_trainers

if __name__ == "__main__":
    rows = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
    make = stage_trainers(accelerator="cpu", strategy="ddp_spawn", devices=2, enable_progress_bar=False,
                          enable_model_summary=False)
    hasher = RBMStack(8, layers=[], max_epochs=1, min_steps=1)
    hasher.fit(FitData(rows), partial(make, logger=False, default_root_dir={str(tmp_path)!r}))
"""
    script = tmp_path / "program.py"
    script.write_text(program)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == ""
