"""What studies share: a data set with its fit photos, describers built from overrides, float reports."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any, NamedTuple, cast

import numpy as np
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from niphash.config import build, compose, conf_dir
from niphash.data.images import ImageSet
from niphash.data.task import RetrievalTask
from niphash.descriptors.describer import Describer, DescribeReport
from niphash.descriptors.store.store import DescriptorStore, StoredDescriptors, describe_to_store
from niphash.errors import InputError
from niphash.evaluation.evaluator import Report, evaluate
from niphash.evaluation.intervals import bootstrap_interval
from niphash.pipeline.assembly import build_data, build_task, check_options, descriptors_dir
from niphash.pipeline.fitting import FitSet, choose_fit_set
from niphash.search.distances import CosineDistances, Distances, NearestOfSeveral
from niphash.search.ranking import rank
from niphash.studies.published_values import published_name


def copied(cfg: DictConfig) -> DictConfig:
    """Return a copy of ``cfg``, interpolations kept, that takes any key."""
    return cast(DictConfig, OmegaConf.create(OmegaConf.to_container(cfg)))


def variant(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Return a copy of ``cfg`` with ``overrides`` applied in order, written as on the command line.

    Args:
        cfg: A composed ``conf/train.yaml``; not written to.
        overrides: Choices (``"pooling=fisher"``) and values (``"pooling.gaussians=16"``).

    Raises:
        InputError: no such choice, or no such key.
    """
    changed = copied(cfg)
    for override in overrides:
        key, _, value = override.partition("=")
        try:
            if (conf_dir() / key).is_dir():
                changed[key] = OmegaConf.to_container(compose([override])[key])
            else:
                OmegaConf.set_struct(changed, True)
                OmegaConf.update(changed, key, _value(override))
                OmegaConf.set_struct(changed, False)
        except (HydraException, OmegaConfBaseException) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"study: {key}={value} cannot be used ({reason})") from error
    return changed


def _value(override: str) -> Any:
    """Return the value as the command line reads it: ``off`` is a word there, not YAML's ``False``."""
    return OverridesParser.create().parse_override(override).value()


@dataclass(frozen=True)
class Bench:
    """A task on a prepared data set, and the photos to fit on.

    Attributes:
        cfg: The configuration that they come from.
        task: What is searched for in what.
    """

    cfg: DictConfig
    task: RetrievalTask

    @property
    def distractors(self) -> int:
        """Number of images that ``distractors`` has put behind those of the data set."""
        if not self._distracted:
            return 0
        behind = f"{self.cfg.distractors.name}/"
        return sum(
            1 for _ in takewhile(lambda name: name.startswith(behind), reversed(self.task.database.ids))
        )

    @property
    def _distracted(self) -> bool:
        chosen = self.cfg.get("distractors")
        return chosen is not None and chosen.limit != 0

    @property
    def name(self) -> str:
        """The data set, and what else is in the database, for titles and sentences."""
        if not self.distractors:
            return self.task.name
        return f"{self.task.name} with {self.distractors} distractors of {self.cfg.distractors.name}"

    @property
    def published_as(self) -> str:
        """What published numbers of this data set are found by."""
        return published_name(self.task.name, self.distractors)

    @cached_property
    def fit_set(self) -> FitSet:
        """The photos that every learnable stage sees: ``fit.root``, or the data set's default."""
        return choose_fit_set(self.cfg, build_data(self.cfg.data))

    def describer(self, overrides: Sequence[str] = ()) -> "Fitted":
        """Return the describer of ``cfg`` with ``overrides`` (see :func:`variant`), fitted."""
        changed = variant(self.cfg, overrides)
        return self.fitted(build(changed.descriptor))

    def fitted(self, describer: Describer) -> "Fitted":
        """Return ``describer``, fitted, beside its store."""
        describer.fit(self.fit_set.images)
        return Fitted(describer, DescriptorStore.of(describer, descriptors_dir(self.cfg)))

    def report(self, queries: np.ndarray, *database: np.ndarray, task: RetrievalTask | None = None) -> Report:
        """Measure float descriptors.

        Args:
            queries: float32 [Q, D], L2-normalised; NaN for an unreadable photo, which retrieves nothing.
            database: One float32 [N, D], or several, of which the nearest copy of an image counts.
            task: In place of the bench's own.
        """
        copies = [CosineDistances(queries, copy) for copy in database]
        source = copies[0] if len(copies) == 1 else NearestOfSeveral(copies)
        return report(source, task or self.task, self.cfg)


def report(source: Distances, task: RetrievalTask, cfg: DictConfig) -> Report:
    """Rank the database of ``task`` by ``source`` and measure, with ``cfg.ties`` and ``cfg.seed``."""
    ranking = rank(source, task, k=10, tied_before=cfg.ties == "stable", doing="rank")
    return evaluate(ranking, task, ties=cfg.ties, seed=int(cfg.seed))


@dataclass(frozen=True)
class Fitted:
    """A fitted describer and its store: a photo is described once, whatever study asks for it.

    Attributes:
        describer: Photo to descriptor.
        store: Where its descriptors lie.
    """

    describer: Describer
    store: DescriptorStore

    def __call__(self, images: ImageSet) -> np.ndarray:
        """Return float32 [N, D], NaN for a photo that cannot be read."""
        return np.asarray(self.stored(images))

    def stored(self, images: ImageSet) -> StoredDescriptors:
        """Return the descriptors [N, D] as they lie in the store."""
        return describe_to_store(self.describer, images, self.store, DescribeReport())


def prepare(cfg: DictConfig, queries: int | None = None) -> Bench:
    """Return the bench of ``cfg``: the data set is fetched if it is missing.

    Args:
        cfg: A composed ``conf/train.yaml``; never written to.
        queries: So many queries at most, drawn at random with ``cfg.seed``; ``None`` for all.

    Raises:
        InputError: the data set is not there, or an option cannot be used.
    """
    check_options(cfg)
    if queries is not None and queries < 2:
        raise InputError(f"study.queries={queries}: an interval needs at least two queries")
    data = build_data(cfg.data)
    data.prepare()
    task = build_task(data, cfg.data, cfg)
    if queries is not None and queries < len(task.queries):
        chosen = np.random.default_rng(int(cfg.seed)).permutation(len(task.queries))[:queries]
        task = task.with_queries(np.sort(chosen).tolist())
    return Bench(cfg, task)


class Difference(NamedTuple):
    """A mean difference over queries, with its 95 % interval over clusters of queries."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired(first: Report, second: Report, metric: str, seed: int = 0) -> Difference:
    """Return how much ``second`` is above ``first``, query by query, on the same queries."""
    differences = second.per_query[metric] - first.per_query[metric]
    counted = ~np.isnan(differences)
    differences = differences[counted]
    low, high = bootstrap_interval(differences[:, None], first.clusters[counted], seed)[0]
    return Difference(float(differences.mean()), float(low), float(high))


def measured(report: Report, metric: str) -> dict[str, Any]:
    """Return the columns of a CSV for one mean: metric, value, low, high (95 %), queries, clusters."""
    low, high = report.intervals[metric]
    counts = {name: report.counts[name] for name in ("queries", "clusters")}
    return {"metric": metric, "value": report.means[metric], "low": low, "high": high, **counts}


def metric_of_record(task: RetrievalTask) -> str:
    """Return the metric that the papers give for a data set: 4 x recall@4 of UKBench, else mAP."""
    return "ukb" if task.name == "ukbench" else "mAP"


METRIC_LABELS = {"ukb": "4 x recall@4", "mAP": "mean average precision"}


def label(metric: str) -> str:
    """Return the name of a metric for an axis; all are pure numbers."""
    return METRIC_LABELS.get(metric, metric)


def check_names(option: str, given: Sequence[str], known: Iterable[str]) -> None:
    """Refuse a list of names that is empty or holds an unknown one.

    Raises:
        InputError: it names the option and what may be chosen.
    """
    known = list(known)
    unknown = [str(name) for name in given if name not in known]
    if unknown or not given:
        fault = f"{', '.join(unknown)} is unknown; " if unknown else ""
        raise InputError(f"{option}=[{','.join(map(str, given))}]: {fault}choose from {', '.join(known)}")


def selected(named: dict[str, Any], only: Sequence[str] | None) -> dict[str, Any]:
    """Return the entries that ``study.only`` names, in its order; all for ``None``.

    Raises:
        InputError: it names one that does not exist.
    """
    if only is None:
        return named
    check_names("study.only", only, named)
    return {name: named[name] for name in only}
