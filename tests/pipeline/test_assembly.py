from pathlib import Path

import pytest
import torch

from niphash.config import compose
from niphash.errors import InputError
from niphash.pipeline.assembly import build_logger, trainer_factory

GPU = pytest.param(
    "trainer=gpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to train on")
)


@pytest.mark.parametrize(
    "override",
    ["trainer.devices=0", "trainer.devices=abc", "trainer.precision=foo", "trainer.accelerator=foo", GPU],
)
def test_a_trainer_that_cannot_be_made_is_refused_in_one_sentence(override: str, tmp_path: Path):
    cfg = compose([override])
    with pytest.raises(InputError, match="no trainer can be made") as refused:
        trainer_factory(cfg, build_logger(cfg, tmp_path), tmp_path)
    assert "\n" not in str(refused.value)
