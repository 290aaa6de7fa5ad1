"""What studies share: a data set with its fit photos, describers built from overrides, float reports."""

import json
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

from niphash.data.images import ImageSet
from niphash.data.task import RetrievalTask
from niphash.descriptors.describer import Describer, DescribeReport
from niphash.descriptors.store.store import DescriptorStore, StoredDescriptors, describe_to_store
from niphash.errors import InputError
from niphash.evaluation.evaluator import Report, evaluate
from niphash.evaluation.intervals import bootstrap_interval
from niphash.pipeline.fitting import FitSet, choose_fit_set
from niphash.pipeline.run import Run, Target
from niphash.search.distances import CosineDistances, Distances, NearestOfSeveral
from niphash.search.ranking import rank
from niphash.studies.published_values import published_name

_fits: ContextVar[dict[Hashable, Describer] | None] = ContextVar("fits", default=None)


@contextmanager
def shared_fits() -> Iterator[None]:
    """Fit a describer once for all the studies inside the ``with`` block that want it on the same photos."""
    token = _fits.set({})
    try:
        yield
    finally:
        _fits.reset(token)


@dataclass(frozen=True)
class Bench:
    """A task on a prepared data set, and the photos to fit on.

    Attributes:
        run: What they come from.
        task: What is searched for in what.
    """

    run: Run
    task: RetrievalTask

    @property
    def target(self) -> Target:
        """The data set of the study."""
        return self.run.targets[0]

    @property
    def distractors(self) -> int:
        """Number of images that ``distractors`` has put behind those of the data set."""
        if self.target.distractors is None:
            return 0
        behind = f"{self.target.distractors}/"
        return sum(
            1 for _ in takewhile(lambda name: name.startswith(behind), reversed(self.task.database.ids))
        )

    @property
    def name(self) -> str:
        """The data set, and what else is in the database, for titles and sentences."""
        if not self.distractors:
            return self.task.name
        return f"{self.task.name} with {self.distractors} distractors of {self.target.distractors}"

    @property
    def published_as(self) -> str:
        """What published numbers of this data set are found by."""
        return published_name(self.task.name, self.distractors)

    @cached_property
    def fit_set(self) -> FitSet:
        """The photos that every learnable stage sees: ``fit.root``, or the data set's default."""
        return choose_fit_set(self.run.fit, self.target.data, self.run.data_set, self.run.seed)

    def describer(self, overrides: Sequence[str] = ()) -> "Fitted":
        """Return the describer of the run with ``overrides`` (see :meth:`Run.variant`), fitted."""
        run = self.run.variant(overrides)
        return self._fitted(run.describer, run.option("descriptor"))

    def fitted(self, describer: Describer) -> "Fitted":
        """Return ``describer``, fitted, beside its store; see :func:`shared_fits`."""
        return self._fitted(describer, self.run.option("descriptor"))

    def _fitted(self, describer: Describer, options: Any) -> "Fitted":
        images, fits = self.fit_set.images, _fits.get()
        # options of fitting are no part of the fingerprint, which tells fitted describers apart
        how = (describer.fingerprint, json.dumps(options, sort_keys=True), self.run.seed)
        key = (*how, images.ids, tuple(map(str, images.sources)))
        known = None if fits is None else fits.get(key)
        if known is None:
            describer.fit(images)
        else:
            describer = known
        if fits is not None:
            fits[key] = describer
        return Fitted(describer, DescriptorStore.of(describer, self.run.descriptors_dir))

    def report(self, queries: np.ndarray, *database: np.ndarray, task: RetrievalTask | None = None) -> Report:
        """Measure float descriptors.

        Args:
            queries: float32 [Q, D], L2-normalised; a row of NaN retrieves nothing.
            database: One float32 [N, D], or several, of which the nearest copy of an image counts.
            task: In place of the bench's own.
        """
        copies = [CosineDistances(queries, copy) for copy in database]
        source = copies[0] if len(copies) == 1 else NearestOfSeveral(copies)
        return report(source, task or self.task, self.run)


def report(source: Distances, task: RetrievalTask, run: Run) -> Report:
    """Rank the database of ``task`` by ``source`` and measure, with the ties and the seed of ``run``."""
    ranking = rank(source, task, k=10, tied_before=run.ties == "stable", doing="rank")
    return evaluate(ranking, task, ties=run.ties, seed=run.seed)


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
        """Return float32 [N, D], NaN for a photo that cannot be read or has no local descriptor."""
        return np.asarray(self.stored(images).comparable())

    def stored(self, images: ImageSet) -> StoredDescriptors:
        """Return the descriptors [N, D] as they lie in the store."""
        return describe_to_store(self.describer, images, self.store, DescribeReport())


def prepare(run: Run, queries: int | None = None) -> Bench:
    """Return the bench of ``run``: the data set is fetched if it is missing.

    Args:
        run: What is measured on what.
        queries: So many queries at most, drawn at random with the run's seed; ``None`` for all.

    Raises:
        InputError: the data set is not there, or an option cannot be used.
    """
    if queries is not None and queries < 2:
        raise InputError(f"study.queries={queries}: an interval needs at least two queries")
    target = run.targets[0]
    target.data.prepare()
    task = target.task()
    if queries is not None and queries < len(task.queries):
        chosen = np.random.default_rng(run.seed).permutation(len(task.queries))[:queries]
        task = task.with_queries(np.sort(chosen).tolist())
    return Bench(run, task)


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
