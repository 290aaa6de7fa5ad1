"""One assembled run: what a configuration stands for, checked before any work.

:func:`assemble` is the only walk from configuration to objects; training, evaluation, every study, the
command line and the benchmarks use it, and nothing below it sees a configuration.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from omegaconf import DictConfig, ListConfig, OmegaConf

from niphash.config import build, compose, conf_dir, copied, variant
from niphash.data.dataset import DataSet
from niphash.data.task import RetrievalTask
from niphash.data.writing import refuse_file
from niphash.descriptors.describer import Describer
from niphash.errors import InputError
from niphash.evaluation.functional import Ties
from niphash.evaluation.metrics import Score
from niphash.hashing.hasher import Hasher
from niphash.options import check_bits, check_choice, check_number
from niphash.pipeline.labels import run_labels
from niphash.pipeline.task_views import DatabasePooling, TaskViews
from niphash.search.comparison import DistanceChoice
from niphash.search.index import Index
from niphash.search.rerank.reranker import Reranker
from niphash.training.trainer import TrainerFactory, check_trainer, with_callbacks

if TYPE_CHECKING:
    from pytorch_lightning import Callback
    from pytorch_lightning.loggers import Logger

STAGES = ("hashing", "classifier", "backbone")
#: Groups of ``conf/`` whose choices name a run in ``metrics.json``.
CHOICES = ("backbone", "pooling", "whitening", "descriptor", "hashing", "index")


@dataclass(frozen=True)
class FitOptions:
    """What ``fit`` asks for: the photos that every learnable stage sees.

    Attributes:
        root: Folder of photos in place of the data set's default; ``None``: the default.
        limit: So many photos at most, drawn at random; ``None``: all.
        pairs: A CSV file of matching photos, ``"folders"``, or ``None``.
        views: Random views of each photo where a stage needs pairs and none are given.
        held_out: Share of the photos, in [0, 1), that hashing does not learn from.
    """

    root: str | None = None
    limit: int | None = None
    pairs: str | None = None
    views: int = 2
    held_out: float = 0

    def __post_init__(self) -> None:
        check_number("views", self.views, least=0, whole=True, group="fit")
        check_number("held_out", self.held_out, least=0, below=1, group="fit")
        if self.limit is not None:
            check_number("limit", self.limit, least=1, whole=True, group="fit")


@dataclass(frozen=True)
class CalibrationOptions:
    """What ``calibration`` asks for.

    Attributes:
        photos: Fit photos that are seen in new views, at most; 0: no calibration is learned.
        views: New views of each.
    """

    photos: int = 100
    views: int = 2

    def __post_init__(self) -> None:
        check_number("photos", self.photos, least=0, whole=True, group="calibration")
        check_number("views", self.views, least=1, whole=True, group="calibration")


@dataclass(frozen=True)
class Target:
    """A data set to measure on, as the run sees it.

    Attributes:
        data: The data set.
        views: How its photos are seen.
        add_distractors: Puts distractors behind its database; ``None``: there are none.
        distractors: Name of the distractors, ``None`` where there are none.
    """

    data: DataSet
    views: TaskViews
    add_distractors: Callable[[RetrievalTask], RetrievalTask] | None = None
    distractors: str | None = None

    @property
    def pooling(self) -> DatabasePooling | None:
        """How database images are described over rotations, if they are."""
        return self.views.pooling

    def task(self) -> RetrievalTask:
        """Return the task of the prepared data set, distractors behind it, its queries seen as asked.

        Raises:
            InputError: the folder does not hold the data set.
        """
        task = self.data.task()
        return self.views.of(task if self.add_distractors is None else self.add_distractors(task))


@dataclass(frozen=True, eq=False)
class Run:
    """What a configuration stands for; parts that are costly to build are built when first used.

    Attributes:
        folder: Where everything but described photos is written.
        data_dir: Where data sets and described photos are kept.
        seed: Of everything random.
        ties: Order inside equal distances.
        distance: Between codes.
        recenter: Move the bit thresholds to the mean of the indexed collection.
        fit: The photos to fit on.
        calibration: The photos that the meaning of a distance is learned from.
        targets: The data sets to measure on; the first gives the default fit set.
        choices: The choice of each group that names a run (``{"hashing": "itq", ...}``), where known.
        overrides: What the command line said, as it was written (``("data=ukbench", "bits=128")``).
    """

    folder: Path
    data_dir: Path
    seed: int
    ties: Ties
    distance: DistanceChoice
    recenter: bool
    fit: FitOptions
    calibration: CalibrationOptions
    targets: tuple[Target, ...]
    choices: Mapping[str, str]
    _config: DictConfig = field(repr=False)
    overrides: tuple[str, ...] = ()

    @cached_property
    def describer(self) -> Describer:
        """The describer, unfitted."""
        return build(self._config.descriptor)

    @cached_property
    def hasher(self) -> Hasher:
        """The hasher, unfitted."""
        return self.new_hasher()

    def new_describer(self, **nodes: Any) -> Describer:
        """Return another unfitted describer, made with ``nodes`` in place of those of the configuration."""
        changed = copied(self._config)
        changed.update(nodes)
        return build(changed.descriptor)

    def new_hasher(self, **arguments: Any) -> Hasher:
        """Return another unfitted hasher; ``arguments`` go to its constructor as they are."""
        return build(self._config.hashing, **arguments)

    def new_index(self, bits: int) -> Index:
        """Return an empty index of ``conf/index`` for codes of ``bits`` bits."""
        return build(self._config.index, bits=bits)

    def new_reranker(self) -> Reranker | None:
        """Return the re-ranking of ``conf/rerank``, ``None`` for none."""
        chosen = self._config.get("rerank")
        return None if not chosen or chosen.first == 0 else build(chosen)

    @cached_property
    def metrics(self) -> dict[str, Score]:
        """The further metrics of ``metrics``, by name."""
        return {str(name): build(node) for name, node in (self._config.get("metrics") or {}).items()}

    @cached_property
    def loggers(self) -> "list[Logger]":
        """The Lightning loggers of ``conf/logger``, writing into the run folder."""
        nodes = (self._config.get("logger") or {}).values()
        return [
            build(node, save_dir=str(self.folder), **run_labels(self, node))
            for node in nodes
            if node is not None
        ]

    @cached_property
    def trainer(self) -> TrainerFactory:
        """What makes the Lightning trainer of each learnable stage.

        Raises:
            InputError: no trainer can be made of ``conf/trainer``.
        """
        return self.trainer_in(self.folder / "checkpoints", self.loggers)

    def trainer_in(self, folder: Path, loggers: "list[Logger] | None" = None) -> TrainerFactory:
        """Return what makes trainers whose checkpoints lie in ``folder``; silent without ``loggers``."""
        make: Any = build(self._config.trainer)
        if loggers is None:
            check_trainer(partial(make, logger=False))
            return partial(make, logger=False, default_root_dir=str(folder))
        make = with_callbacks(make, self.new_callbacks)
        check_trainer(partial(make, logger=False))
        return partial(make, logger=loggers, default_root_dir=str(folder))

    def new_callbacks(self) -> "list[Callback]":
        """Return the callbacks of ``conf/callbacks``, made anew: each stage has its own."""
        return [build(node) for node in (self._config.get("callbacks") or {}).values()]

    @property
    def bits(self) -> int:
        """Code length of every hashing choice."""
        return int(self._config.bits)

    @property
    def several_processes(self) -> bool:
        """Whether the trainer spreads its work over processes (``trainer=ddp``, ``trainer=ddp_sim``)."""
        return self._config.trainer.get("strategy", "auto") != "auto"

    @property
    def descriptors_dir(self) -> Path:
        """Folder of the descriptor store: photos described once are found there by every run."""
        return self.data_dir / "descriptors"

    def data_set(self, name: str) -> DataSet:
        """Return the data set ``name`` of ``conf/data`` as it is configured by default."""
        return build(compose([f"data={name}", f"paths.data_dir={self.data_dir}"]).data)

    def option(self, key: str) -> Any:
        """Return one value of the configuration, plain (``"bits"``, ``"pooling"``)."""
        value = OmegaConf.select(self._config, key)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

    def part(self, key: str) -> Any:
        """Return what the node ``key`` of the configuration stands for, as a partial function.

        Raises:
            InputError: an option of it that needs a value has none.
        """
        for option in sorted(OmegaConf.missing_keys(self._config[key])):
            raise InputError(f"{option} has no value; give one, {option}=<value>")
        return build(self._config[key], _partial_=True)

    def variant(self, overrides: Sequence[str]) -> "Run":
        """Return the run that the same command line with ``overrides`` more would be.

        Raises:
            InputError: no such choice, no such key, or an impossible value.
        """
        if not overrides:
            return self
        changed = dict(override.partition("=")[::2] for override in overrides)
        choices = {group: changed.get(group, choice) for group, choice in self.choices.items()}
        return assemble(variant(self._config, overrides), self.folder, choices, (*self.overrides, *overrides))

    @property
    def record(self) -> dict[str, Any]:
        """The configuration as plain values, interpolations resolved."""
        return resolved(self._config)

    @property
    def model_config(self) -> dict[str, Any]:
        """What a model folder needs to be built again."""
        return {part: self.option(part) for part in ("descriptor", "hashing")}


def assemble(
    cfg: DictConfig,
    folder: Path | str,
    choices: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
) -> Run:
    """Return the run that ``cfg`` stands for; every cheap check is made here.

    Args:
        cfg: A composed ``conf/train.yaml`` or ``conf/evaluate.yaml`` (see :func:`niphash.config.compose`);
            never written to.
        folder: The run folder.
        choices: The choice of each group, as Hydra knows it; those of :data:`CHOICES` are kept.
        overrides: What was said on the command line, where there was one.

    Raises:
        InputError: an option cannot be used; one sentence says which and what it may be.
    """
    refuse_file(Path(str(cfg.paths.data_dir)), "paths.data_dir")
    if "bits" in cfg:
        check_bits(cfg.bits)
    check_number("seed", cfg.seed, least=0, whole=True, group="")
    check_choice("stage", cfg.get("stage", "hashing"), STAGES, group="")
    _check_setting(cfg)
    ties = check_choice("ties", cfg.ties, get_args(Ties), group="")
    distance = check_choice("distance", cfg.distance, get_args(DistanceChoice), group="")
    return Run(
        folder=Path(folder),
        data_dir=Path(str(cfg.paths.data_dir)),
        seed=int(cfg.seed),
        ties=ties,
        distance=distance,
        recenter=bool(cfg.get("recenter")),
        fit=FitOptions(**resolved(cfg.fit)) if "fit" in cfg else FitOptions(),
        calibration=CalibrationOptions(**resolved(cfg.calibration) if "calibration" in cfg else {}),
        targets=_targets(cfg),
        choices={group: (choices or {})[group] for group in CHOICES if group in (choices or {})},
        _config=cfg,
        overrides=tuple(overrides),
    )


def _check_setting(cfg: DictConfig) -> None:
    """Refuse ``setting=paper`` where no part of ``conf/setting`` goes with the experiment."""
    setting = cfg.get("setting", "ours")
    if setting == "ours":
        return
    known = sorted(path.parent.name for path in (conf_dir() / "setting").glob(f"*/{setting}.yaml"))
    study = cfg.get("study")
    if study is None or str(study.get("_target_")).rpartition(".")[2] not in known:
        raise InputError(f"setting={setting}: goes with experiment={'|'.join(known)}")


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain values, interpolations resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))


def _targets(cfg: DictConfig) -> tuple[Target, ...]:
    """Return the data sets of ``data`` or, where given, of the list ``eval_data``."""
    nodes = [cfg.data] if cfg.eval_data is None else [_data_node(cfg, e) for e in _entries(cfg.eval_data)]
    views: TaskViews = build(cfg["views"])
    chosen = cfg.get("distractors")
    add = None if chosen is None or chosen.limit == 0 else build(chosen, _partial_=True)
    name = None if add is None else str(chosen.name)
    return tuple(Target(build(node), views, add, name) for node in nodes)


def _entries(eval_data: Any) -> list[tuple[str, str | None]]:
    """Read ``eval_data``: names of ``conf/data``, or ``{name: folder}``."""
    hint = "eval_data: give a list such as eval_data=[oxford,ukbench] or eval_data=[{ukbench:<folder>}]"
    if not isinstance(eval_data, ListConfig) or not eval_data:
        raise InputError(hint)
    entries: list[tuple[str, str | None]] = []
    for entry in cast(list[Any], OmegaConf.to_container(eval_data, resolve=True)):
        if isinstance(entry, str):
            entries.append((entry, None))
        elif isinstance(entry, dict) and len(entry) == 1:
            entries.extend((str(name), str(root)) for name, root in entry.items())
        else:
            raise InputError(hint)
    return entries


def _data_node(cfg: DictConfig, entry: tuple[str, str | None]) -> DictConfig:
    name, root = entry
    try:
        changed = variant(cfg, [f"data={name}"]).data
    except InputError as error:
        raise InputError(f"eval_data=[{name}]: {error}") from error
    if root is not None:
        changed.root = root
    return changed
