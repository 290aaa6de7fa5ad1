"""From configuration to objects; every cheap check is made here, before any work."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf

from niphash.config import build
from niphash.data.dataset import DataSet
from niphash.data.pictures.views import query_views
from niphash.data.task import RetrievalTask
from niphash.descriptors.describer import Describer
from niphash.errors import InputError
from niphash.hashing.hasher import Hasher
from niphash.training.trainer import TrainerFactory

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

#: Keys of ``conf/data`` that change queries or database of any data set; not the data set's own.
SWITCHES = ("rotate_query", "scale_query", "pool_database", "pool_degrees", "pool_step")
STAGES = ("hashing", "classifier")
DISTANCES = ("auto", "hamming", "asymmetric")
TIES = ("expected", "optimistic", "pessimistic", "stable")


def check_options(cfg: DictConfig) -> None:
    """Refuse values that no stage could use.

    Raises:
        InputError: with the option, its value and what it may be.
    """
    bits, seed = cfg.get("bits"), cfg.get("seed")
    if "bits" in cfg and (not isinstance(bits, int) or isinstance(bits, bool) or bits <= 0 or bits % 8):
        raise InputError(f"bits={bits}: a code has a positive multiple of 8 bits, for instance bits=64")
    if "seed" in cfg and (not isinstance(seed, int) or seed < 0):
        raise InputError(f"seed={seed}: a seed is a whole number from 0 on")
    if cfg.get("stage", "hashing") not in STAGES:
        raise InputError(f"stage={cfg.stage}: choose one of {', '.join(STAGES)}")
    if cfg.distance not in DISTANCES:
        raise InputError(f"distance={cfg.distance}: choose one of {', '.join(DISTANCES)}")
    if cfg.ties not in TIES:
        raise InputError(f"ties={cfg.ties}: choose one of {', '.join(TIES)}")


def build_data(node: DictConfig) -> DataSet:
    """Return the data set of a ``conf/data`` node (the switches for queries and database left out)."""
    own = {key: value for key, value in node.items() if key not in SWITCHES}
    return build(OmegaConf.create(OmegaConf.to_container(OmegaConf.create(own), resolve=True)))


def build_task(data: DataSet, node: DictConfig, cfg: DictConfig) -> RetrievalTask:
    """Return the task of a prepared data set, with the distractors and the query views asked for.

    Raises:
        InputError: the folder does not hold the data set, or a switch has an impossible value.
    """
    task = data.task()
    if cfg.get("distractors") is not None:
        task = build(cfg.distractors, _partial_=True)(task)
    view = query_views(node.get("rotate_query"), node.get("scale_query"))
    if view is None:
        return task
    notes = (*task.notes, f"queries seen through {view.key}")
    return replace(task, queries=task.queries.with_view(view), notes=notes)


def build_describer(cfg: DictConfig) -> Describer:
    """Return the unfitted describer of ``cfg.descriptor``."""
    return build(cfg.descriptor)


def build_hasher(cfg: DictConfig) -> Hasher:
    """Return the unfitted hasher of ``cfg.hashing``."""
    return build(cfg.hashing)


def build_logger(cfg: DictConfig, run_dir: Path) -> "Logger":
    """Return the Lightning logger of ``cfg.logger``, writing into the run folder."""
    return build(cfg.logger, save_dir=str(run_dir))


def trainer_factory(cfg: DictConfig, logger: "Logger", run_dir: Path) -> TrainerFactory:
    """Return what makes the Lightning trainer of each learnable stage.

    Raises:
        InputError: no trainer can be made of ``cfg.trainer``.
    """
    from niphash.training.trainer import check_trainer, with_callbacks

    nodes = (cfg.get("callbacks") or {}).values()
    make = with_callbacks(build(cfg.trainer), lambda: [build(node) for node in nodes])
    check_trainer(partial(make, logger=False))
    return partial(make, logger=logger, default_root_dir=str(run_dir / "checkpoints"))


def descriptors_dir(cfg: DictConfig) -> Path:
    """Return the folder of the descriptor store: photos described once are found there by every run."""
    return Path(cfg.paths.data_dir) / "descriptors"


def several_processes(cfg: DictConfig) -> bool:
    """Tell whether ``cfg.trainer`` spreads its work over processes (``trainer=ddp``, ``trainer=ddp_sim``)."""
    return cfg.trainer.get("strategy", "auto") != "auto"


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain values, interpolations resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
