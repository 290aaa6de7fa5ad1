"""What the hashing studies share: methods fitted on the same descriptors, measured with the same queries."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, get_args

import numpy as np
import pytorch_lightning as pl
import torch

from niphash import progress
from niphash.config import conf_dir
from niphash.errors import InputError
from niphash.evaluation.evaluator import Report, evaluate
from niphash.hashing.hasher import DistanceName, Hasher
from niphash.hashing.rbm.regularizers import RegularizerName
from niphash.hashing.rbm.stack import RBMStack
from niphash.pipeline.fitting import FitSet, checksums, fit_rows, share_a_photo, view_pairs, with_views
from niphash.pipeline.run import Run
from niphash.search.comparison import DistanceChoice, code_distances, spread
from niphash.search.ranking import rank
from niphash.studies.measured import Bench, check_names, metric_of_record, paired, prepare
from niphash.studies.published_values import published
from niphash.training import loggers
from niphash.training.fit_data import FitData
from niphash.training.trainer import TrainerFactory, with_callbacks

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class HashingBench:
    """One data set, described once for all the hashing methods of a study.

    Attributes:
        bench: The task (unreadable queries left out) and the fit photos.
        queries: float32 [Q, D]; photos without any local descriptor are rows of NaN, which find nothing.
        database: float32 [N, D]; these and unreadable photos are rows of NaN.
        photos: float32 [M, D], the fit photos that have a descriptor.
        with_views: float32 [M', D], the same photos and their random views, for methods that need pairs.
        pairs: int64 [P, 2], rows of ``with_views`` that match.
        fitted_on: Where the fit photos come from.
        transductive: Whether a fit photo is, byte for byte, among the tested ones.
    """

    bench: Bench
    queries: np.ndarray
    database: np.ndarray
    photos: np.ndarray
    with_views: np.ndarray
    pairs: np.ndarray
    fitted_on: str
    transductive: bool

    @property
    def run(self) -> Run:
        """The run that the study belongs to."""
        return self.bench.run

    @property
    def name(self) -> str:
        """The data set and its distractors, see :attr:`Bench.name`."""
        return self.bench.name

    @property
    def published_as(self) -> str:
        """See :attr:`Bench.published_as`."""
        return self.bench.published_as

    @property
    def title(self) -> str:
        """The data set, for the top of a picture."""
        remark = " (transductive)" if self.transductive else ""
        return f"{self.name}{remark}, {len(self.queries)} queries"

    @property
    def footnote(self) -> str:
        """What the end of a sentence says of intervals and fit set."""
        remark = ", transductive: tested photos are among them" if self.transductive else ""
        return f"95 % intervals, paired by query; fitted on {self.fitted_on}{remark}"

    @property
    def readable(self) -> np.ndarray:
        """bool [N], the database photos that have a descriptor."""
        return _readable(self.database)

    @property
    def readable_queries(self) -> np.ndarray:
        """bool [Q], the queries that have a descriptor; the others find nothing."""
        return _readable(self.queries)

    def hasher(self, overrides: Sequence[str]) -> Hasher:
        """Return the unfitted hasher of the run with ``overrides`` (``"bits=128"``, ``"hashing=itq"``).

        Raises:
            InputError: no such choice or key.
        """
        return self.run.variant(overrides).new_hasher()

    def fit(self, overrides: Sequence[str], *callbacks: pl.Callback) -> Hasher:
        """Return the hasher of :meth:`hasher`, fitted; ``callbacks`` follow its stages.

        Raises:
            InputError: no such choice or key, or it cannot be fitted on these descriptors.
        """
        return self.fit_hasher(self.hasher(overrides), *callbacks, name=" ".join(overrides))

    def fit_rows(self, hasher: Hasher) -> np.ndarray:
        """Return what ``hasher`` is fitted on, float32 [M, D]."""
        return self.with_views if hasher.needs_pairs else self.photos

    def fit_hasher(self, hasher: Hasher, *callbacks: pl.Callback, name: str = "") -> Hasher:
        """Fit ``hasher`` and return it.

        Args:
            hasher: Unfitted.
            *callbacks: Follow its stages.
            name: Of its progress and its curves; the method and its bits where there is none.

        Raises:
            InputError: it cannot be fitted on these descriptors.
        """
        rows = self.fit_rows(hasher)
        hasher.check(rows.shape[1], len(rows))
        data = FitData(rows, self.pairs if hasher.needs_pairs else None)
        with self._shown(hasher, name), _trainer(self.run, callbacks) as trainer:
            hasher.fit(data, trainer)
        return hasher

    @contextmanager
    def _shown(self, hasher: Hasher, name: str = "") -> Iterator[None]:
        """Put the method before the progress and the curves of what is fitted in the ``with`` block."""
        name = name or f"{type(hasher).__name__}, {hasher.bits} bits"
        with progress.owned(name), loggers.owned(self.run.loggers, name):
            yield

    def fit_first_phase(self, hasher: RBMStack) -> dict[str, torch.Tensor]:
        """Return the state of ``hasher``, which is left unfitted, after the first of its phases.

        Raises:
            InputError: it cannot be fitted on these descriptors.
        """
        self._check(hasher)
        start = copy(hasher)
        start.phases = hasher.phases[:1]
        with self._shown(hasher), _trainer(self.run) as trainer:
            start.fit(FitData(self.fit_rows(hasher)), trainer)
        return start.state_dict()

    def fine_tune(self, hasher: RBMStack, state: dict[str, torch.Tensor], *callbacks: pl.Callback) -> None:
        """Go on with the other phases of ``hasher`` from what :meth:`fit_first_phase` returned."""
        hasher.load_state_dict({key: value.clone() for key, value in state.items()})
        data = FitData(self.fit_rows(hasher), self.pairs if hasher.needs_pairs else None)
        with self._shown(hasher), _trainer(self.run, callbacks) as trainer:
            hasher.fine_tune(data, trainer)

    def _check(self, hasher: Hasher) -> None:
        rows = self.fit_rows(hasher)
        hasher.check(rows.shape[1], len(rows))
        hasher.check_pairs(self.pairs if hasher.needs_pairs else None, len(rows))

    def report(self, hasher: Hasher, distance: DistanceChoice | None = None) -> Report:
        """Encode queries and database, and measure the ranking by code.

        Args:
            hasher: Fitted; its thresholds move to the mean of the database if ``hashing.recenter=index``.
            distance: How codes are compared; ``None`` for ``distance``.

        Raises:
            InputError: the distance means nothing on these codes.
        """
        if hasher.recenters_on_index:
            hasher.recenter(self.database[self.readable])
        codes = spread(hasher.encode(self.database[self.readable]), self.readable)
        source = code_distances(hasher, self.queries, codes, self.readable, distance or self.run.distance)
        ties, task = self.run.ties, self.bench.task
        ranking = rank(source, task, k=1, tied_before=ties == "stable", doing="rank by code")
        return evaluate(ranking, task, ties=ties, seed=self.run.seed)

    def float_report(self) -> Report:
        """Measure the ranking by the uncompressed descriptor."""
        return self.bench.report(self.queries, self.database)

    def try_fit(self, overrides: Sequence[str]) -> Hasher | None:
        """Return a fitted hasher; ``None``, with a warning, where it has no such code.

        For instance more bits than the descriptor has dimensions.

        Raises:
            InputError: no such choice or key; that is a mistake, nothing to be left out.
        """
        hasher = self.hasher(overrides)
        try:
            self.fit_hasher(hasher, name=" ".join(overrides))
        except InputError as error:
            log.warning("%s is left out: %s", " ".join(overrides), error)
            return None
        return hasher


class Compared(NamedTuple):
    """A hashing method (a choice of ``conf/hashing``) and the distance that its codes are compared by."""

    method: str
    distance: DistanceName

    def __str__(self) -> str:
        return f"{self.method} ({self.distance})"


def compared_methods(run: Run, entries: Sequence[str]) -> list[Compared]:
    """Read ``study.methods``, before any photo is described.

    Args:
        run: What is measured on what.
        entries: ``"itq"``, compared by ``distance`` where its codes know that, else by what suits them
            best; or with the distance, ``"itq+asymmetric"``.

    Returns:
        Each once, in order.

    Raises:
        InputError: there is none, or one names no method or no distance of its codes.
    """
    known = sorted({path.stem for path in (conf_dir() / "hashing").glob("*.yaml")} - {"none"})
    check_names("study.methods", [entry.partition("+")[0] for entry in entries], known)
    return list(dict.fromkeys(_compared(run, entry) for entry in entries))


def _compared(run: Run, entry: str) -> Compared:
    method, plus, wanted = entry.partition("+")
    distances: dict[str, DistanceName] = {
        distance: distance for distance in run.variant([f"hashing={method}"]).hasher.distances
    }
    if plus and wanted not in distances:
        raise InputError(
            f"study.methods: {entry}: codes of {method} are compared by {' or '.join(distances)} distances; "
            f"write {' or '.join(f'{method}+{distance}' for distance in distances)}"
        )
    best = next(iter(distances.values()))
    return Compared(method, distances.get(wanted or run.distance, best))


def hashing_bench(run: Run, views: bool = True, queries: int | None = None) -> HashingBench:
    """Return the first of :func:`hashing_benches`, whose arguments and errors it has."""
    return hashing_benches(replace(run, targets=run.targets[:1]), views, queries)[0]


def hashing_benches(run: Run, views: bool = True, queries: int | None = None) -> list[HashingBench]:
    """Fit the describer of ``run``; describe the fit set, and database and queries of each data set.

    Args:
        run: What is measured on what.
        views: Also describe random views of the fit photos (``fit.views`` of each, or none where
            ``fit.pairs`` says what matches).
        queries: So many queries of a data set at most; ``None`` for all.

    Returns:
        One a data set of the run; all share the fit photos.

    Raises:
        InputError: a data set is not there, or none of a part of it can be read.
    """
    benches = [prepare(replace(run, targets=(target,)), queries) for target in run.targets]
    fit_set = benches[0].fit_set
    describe = benches[0].fitted(run.describer)
    copies = run.fit.views if views and fit_set.pairs is None else 0
    parts = [describe(images) for images in with_views(fit_set.images, copies, run.seed)]
    _check_readable("fit", parts[0], benches[0].task.name)
    pairs = view_pairs(len(parts[0]), copies) if fit_set.pairs is None else fit_set.pairs
    rows, pairs = _readable_pairs(np.concatenate(parts), pairs)
    fitted = checksums(fit_set.images)
    found = []
    for bench in benches:
        task = bench.task
        stored, database = describe.stored(task.queries), describe(task.database)
        of_queries = np.asarray(stored.comparable())
        _check_readable("query", of_queries, task.name)
        _check_readable("database", database, task.name)
        read = stored.positions >= 0
        found.append(
            HashingBench(
                bench=replace(bench, task=task.with_queries(np.flatnonzero(read).tolist())),
                queries=of_queries[read],
                database=database,
                photos=parts[0][_readable(parts[0])],
                with_views=rows,
                pairs=pairs,
                fitted_on=fit_set.source,
                transductive=any(share_a_photo(fitted, images) for images in (task.database, task.queries)),
            )
        )
    return found


def check_counts(run: Run, fit_set: FitSet) -> None:
    """Refuse what ``run`` could not learn from so many fit photos, before any photo is described.

    Raises:
        InputError: its descriptor or its hashing method needs more of them.
    """
    run.describer.check(len(fit_set.images))
    rows = fit_rows(fit_set, run.fit, run.hasher.needs_pairs, run.seed)
    run.hasher.check(run.describer.dim, rows.count)
    run.hasher.check_pairs(rows.pairs, rows.count)


def _check_readable(what: str, rows: np.ndarray, data: str) -> None:
    if not _readable(rows).any():
        raise InputError(f"{data}: none of the {len(rows)} {what} photos can be read and has a descriptor")


def _readable(rows: np.ndarray) -> np.ndarray:
    """Return bool [N], which of the rows [N, D] are descriptors; NaN stands where there is none."""
    return np.isfinite(rows[:, 0])


def _readable_pairs(rows: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the rows of NaN in [M, D] and the pairs [P, 2] that name one."""
    readable = _readable(rows)
    number = np.cumsum(readable) - 1
    return rows[readable], number[pairs[readable[pairs].all(axis=1)]]


@contextmanager
def _trainer(run: Run, callbacks: Sequence[pl.Callback] = ()) -> Iterator[TrainerFactory]:
    """Give the trainer of ``run``; its checkpoints are thrown away, since every method makes its own.

    ``callbacks`` follow every stage, after those of the run.
    """
    with TemporaryDirectory(prefix="niphash-") as folder:
        make = run.trainer_in(Path(folder), run.loggers)
        yield with_callbacks(make, lambda: [*run.new_callbacks(), *callbacks])


def chosen_metric(metric: str | None, bench: HashingBench, known: Report) -> str:
    """Return ``metric``, or the metric of record of the data set for ``None``.

    Raises:
        InputError: it is not among those that were measured.
    """
    metric = metric or metric_of_record(bench.bench.task)
    if metric not in known.means:
        raise InputError(f"study.metric={metric}: choose one of {', '.join(known.means)}")
    return metric


def check_published(descriptors: Sequence[str]) -> None:
    """Refuse ``study.published`` if it names a descriptor of which no codes were published.

    Raises:
        InputError: it does; an empty list is fine.
    """
    if descriptors:
        known = sorted({number.descriptor for number in published() if number.bits is not None})
        check_names("study.published", descriptors, known)


def check_regularizers(names: Sequence[str]) -> None:
    """Refuse ``study.regularizers`` if it is empty or names an unknown one.

    Raises:
        InputError: it does.
    """
    check_names("study.regularizers", names, get_args(RegularizerName))


def check_rbm(run: Run) -> None:
    """Refuse a hashing method that is no RBM, for studies that look into one.

    Raises:
        InputError: it is none.
    """
    if not isinstance(run.hasher, RBMStack):
        raise InputError("this study looks into an RBM; set hashing=rbm or hashing=rbm_stack")


def code_lengths(bits: Sequence[int]) -> list[int]:
    """Return ``study.bits`` in order.

    Raises:
        InputError: there is none, or one is no positive multiple of 8.
    """
    if not bits or any(length <= 0 or length % 8 for length in bits):
        raise InputError(f"study.bits={list(bits)}: give positive multiples of 8, such as [32,64]")
    return sorted(set(bits))


def difference_columns(
    name: str, base: Report | None, report: Report, metric: str, seed: int
) -> dict[str, str | float | None]:
    """Return the columns of a CSV that say how much ``report`` is above ``base``, paired by query.

    Args:
        name: What ``base`` is, for the column ``against``.
        base: ``None`` where there is none: the columns stay empty.
        report: What is compared with it.
        metric: Of the difference.
        seed: Of the bootstrap.
    """
    if base is None:
        return {"against": None, "difference": None, "difference_low": None, "difference_high": None}
    mean, low, high = paired(base, report, metric, seed)
    return {"against": name, "difference": mean, "difference_low": low, "difference_high": high}
