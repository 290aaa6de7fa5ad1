"""Every YAML in conf/ composes, and every choice becomes the object that it names."""

from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from niphash.config import build, compose, conf_dir
from niphash.errors import InputError
from niphash.pipeline.run import assemble

CONF = conf_dir()
#: conf/wandb is read by `wandb sweep`: tests/training/test_boards.py
GROUPS = [path for path in CONF.iterdir() if path.is_dir() and path.name != "wandb"]


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if not path.stem.startswith("_"))


def test_every_group_is_known_to_this_test():
    groups = {group.name for group in GROUPS}
    built_here = {
        "backbone",
        "data",
        "descriptor",
        "distractors",
        "hashing",
        "index",
        "logger",
        "pooling",
        "rerank",
        "trainer",
        "views",
    }
    composed_here = {
        "callbacks",
        "classifier",
        "contrastive",
        "debug",
        "experiment",
        "hparams_search",
        "hydra",
        "paths",
        "setting",
        "whitening",
    }
    assert groups <= built_here | composed_here


@pytest.mark.parametrize(
    ("group", "name"),
    [(path.name, name) for path in GROUPS for name in choices(path.name)],
)
def test_every_file_composes(group: str, name: str, tmp_path: Path):
    cfg = compose([f"{group}={name}", f"paths.data_dir={tmp_path}"])
    assert OmegaConf.to_container(cfg, resolve=group != "hydra")


@pytest.mark.parametrize("group", ["data", "hashing", "index", "pooling", "trainer", "views"])
def test_every_choice_instantiates(group: str, tmp_path: Path):
    for name in choices(group):
        cfg = compose([f"{group}={name}", f"paths.data_dir={tmp_path}"])
        assert build(cfg[group]) is not None


# an ONNX file has no random weights: tests/descriptors/network/test_onnx_backbone.py
@pytest.mark.parametrize("name", [name for name in choices("backbone") if name != "onnx"])
def test_every_backbone_instantiates_in_its_describer(name: str):
    pooling = "fisher" if name.startswith("sift") else "mean"
    overrides = [f"backbone={name}", f"pooling={pooling}"]
    if not name.startswith("sift"):
        overrides.append("backbone.weights=random")
    if name in ("timm", "torchvision"):  # any network of the library
        overrides.append("backbone.name=resnet18")
    assert build(compose(overrides).descriptor).dim > 0


@pytest.mark.parametrize("name", choices("hashing"))
def test_the_debug_options_go_with_every_hashing_method(name: str, tmp_path: Path):
    run = assemble(compose(["debug=default", f"hashing={name}"]), tmp_path)
    assert run.hasher.bits in (0, 64)
    assert run.trainer(max_epochs=1).limit_train_batches == 2


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_every_local_logger_instantiates(name: str, tmp_path: Path):
    logger = build(compose([f"logger={name}"]).logger[name], save_dir=str(tmp_path))
    assert str(tmp_path) in logger.log_dir


def test_a_wrong_choice_lists_the_right_ones():
    with pytest.raises(Exception, match="rbm_stack") as error:
        compose(["hashing=rbm_stak"])
    assert "itq" in str(error.value)


SETTINGS = sorted((path.parent.name, path.stem) for path in (CONF / "setting").glob("*/*.yaml"))


@pytest.mark.parametrize(("experiment", "setting"), SETTINGS)
def test_every_setting_changes_its_experiment_and_gives_way_to_the_command_line(
    experiment: str, setting: str, tmp_path: Path
):
    ours, papers = (compose([f"experiment={experiment}", f"setting={name}"]) for name in ("ours", setting))
    assert papers.study != ours.study or papers.hashing != ours.hashing
    for part in ("study", "hashing", "pooling"):
        assert ours[part].keys() == papers[part].keys()
    run = assemble(papers, tmp_path)
    assert run.hasher.bits == 64
    assert run.part("study")
    words = ["study.metric=recall@1", "seed=3"]
    changed = compose([f"experiment={experiment}", f"setting={setting}", *words])
    assert changed.study.metric == "recall@1"


@pytest.mark.parametrize("words", [[], ["experiment=bits"], ["experiment=best_descriptor"]])
def test_the_setting_of_no_paper_is_refused(words: list[str], tmp_path: Path):
    with pytest.raises(InputError, match=r"setting=paper: goes with experiment=margins\|"):
        assemble(compose(["setting=paper", *words]), tmp_path)


def test_an_unknown_key_is_refused():
    with pytest.raises(ConfigCompositionException, match="bitz"):
        compose(["bitz=64"])


def test_an_option_without_a_value_is_named():
    with pytest.raises(InputError, match=r"backbone\.name"):
        build(compose(["backbone=timm", "pooling=mean"]).descriptor)
