"""How retrieval falls as the database grows to a million images, counted block by block.

Real distractors are random views of the fit photos. More of them than can be described are simulated: codes
whose projections follow one Gaussian distribution, with the mean and the covariance of the projections of the
real ones. The simulation is also made at the largest number of real distractors, so that the two can be
compared; it has no clusters of photos that look alike, so it may be kinder than real photos are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from niphash.data.pictures.views import RandomView
from niphash.errors import InputError
from niphash.evaluation.evaluator import Report, evaluate
from niphash.hashing.codes import pack_bits
from niphash.options import check_numbers
from niphash.pipeline.run import Run
from niphash.search.comparison import code_distances, spread
from niphash.search.distances import CosineDistances, Distances
from niphash.search.ranking import Ranking, rank
from niphash.studies.curves import blank_figure, color
from niphash.studies.hashed import Compared, HashingBench, compared_methods, hashing_bench
from niphash.studies.measured import label, paired
from niphash.studies.result import StudyResult

BLOCK = 4096  # photos or codes at a time
FIRST_COPY = 1000  # views below are those that methods are fitted on
METRICS = ("recall@1000", "mAP")
MEASURED, SIMULATED = "measured", "simulated"


def million(
    run: Run,
    methods: Sequence[str],
    real: Sequence[int] = (1000, 10_000, 100_000),
    simulated: Sequence[int] = (1_000_000,),
    queries: int | None = None,
) -> StudyResult:
    """Measure recall@1000 and mAP against the number of distractors.

    Args:
        run: The data set, the descriptor, and the fit photos whose views are distractors.
        methods: As ``study.methods`` of :func:`niphash.studies.bits.bits`; the float descriptor comes beside.
        real: Numbers of real distractors, described and thrown away block by block.
        simulated: Numbers of simulated ones, for methods whose bits are signs of projections.
        queries: At most so many queries; ``None`` for all.

    Raises:
        InputError: an option cannot be used, or a method has no such code.
    """
    check_numbers("real", real, group="study", least=1, whole=True)
    check_numbers("simulated", simulated, group="study", least=1, whole=True)
    if not real:
        raise InputError("study.real: name at least one number of distractors, such as [1000]")
    compared, real = compared_methods(run, methods), sorted(set(real))
    bench = hashing_bench(run, queries=queries)
    coders = [Coder.fitted(bench, one) for one in compared]
    rankings = [_Growing.of(coder.distances(bench.database, bench.readable), bench) for coder in coders]
    exact = _Growing.of(CosineDistances(bench.queries, bench.database), bench)

    reports: dict[tuple[str, str], dict[int, Report]] = {}
    for count, rows in _stop_at(_views(bench, real[-1]), real):
        exact.add(CosineDistances(bench.queries, rows))
        for coder, ranking in zip(coders, rankings, strict=True):
            coder.learn(rows)
            ranking.add(coder.distances(rows))
        if count in real:
            for name, growing in [("float", exact), *_named(coders, rankings)]:
                reports.setdefault((name, MEASURED), {})[count] = growing.report(bench)
    for coder in coders if simulated else []:
        if coder.can_simulate:
            sizes = sorted({real[-1], *simulated})
            growing = _Growing.of(coder.distances(bench.database, bench.readable), bench)
            for count, codes in _stop_at(coder.simulate(sizes[-1], run.seed), sizes):
                growing.add(coder.code_distances(codes))
                if count in sizes:
                    reports.setdefault((str(coder.compared), SIMULATED), {})[count] = growing.report(bench)
    rows_ = _rows(bench, reports)
    return StudyResult("million", rows_, _draw(rows_, bench), _sentence(bench, reports, real[-1]))


@dataclass
class Coder:
    """A fitted method, and what is known of the projections of the distractors that it has seen.

    Attributes:
        compared: The method and the distance of its codes.
        bench: Its queries and their task.
        hasher: Fitted.
    """

    compared: Compared
    bench: HashingBench
    hasher: Any
    _count: int = 0
    _sum: Any = 0.0  # float64 [bits]
    _products: Any = 0.0  # float64 [bits, bits]

    @classmethod
    def fitted(cls, bench: HashingBench, compared: Compared) -> "Coder":
        """Fit a method on the fit photos of ``bench``."""
        return cls(compared, bench, bench.fit([f"hashing={compared.method}"]))

    @property
    def can_simulate(self) -> bool:
        """Whether its bits are signs of projections."""
        return self.hasher.project(self.bench.photos[:1]) is not None

    def distances(self, rows: np.ndarray, readable: np.ndarray | None = None) -> Distances:
        """Return the distances of the queries to descriptors [N, D]."""
        if readable is None:
            return self.code_distances(self.hasher.encode(rows))
        return self.code_distances(spread(self.hasher.encode(rows[readable]), readable), readable)

    def code_distances(self, codes: np.ndarray, readable: np.ndarray | None = None) -> Distances:
        """Return the distances of the queries to codes uint8 [N, bits // 8]."""
        return code_distances(self.hasher, self.bench.queries, codes, readable, self.compared.distance)

    def learn(self, rows: np.ndarray) -> None:
        """Take the projections of descriptors [N, D] into the mean and the covariance."""
        if self.can_simulate:
            projections = self.hasher.project(rows).astype(np.float64)
            self._count += len(projections)
            self._sum = self._sum + projections.sum(axis=0)
            self._products = self._products + projections.T @ projections

    def simulate(self, count: int, seed: int) -> Iterator[np.ndarray]:
        """Yield ``count`` simulated codes, uint8 [n, bits // 8], block by block."""
        mean = self._sum / self._count
        values, axes = np.linalg.eigh(self._products / self._count - np.outer(mean, mean))
        root = axes * np.sqrt(np.maximum(values, 0))  # [bits, bits]
        rng = np.random.default_rng(seed)
        for start in range(0, count, BLOCK):
            drawn = rng.standard_normal((min(BLOCK, count - start), len(mean)))
            yield pack_bits(mean + drawn @ root.T > 0)


@dataclass
class _Growing:
    """The places of the relevant images of each query, while distractors come to the database.

    Attributes:
        ranking: Of the data set alone.
        order: int64 [J], the judged images by query, then by distance.
        judged: int64 [J], their distances in that order.
        nearer: int64 [J], distractors nearer than each.
        tied: int64 [J], distractors as far as each.
        added: Distractors so far.
    """

    ranking: Ranking
    order: np.ndarray
    judged: np.ndarray
    nearer: np.ndarray
    tied: np.ndarray
    added: int = 0

    @classmethod
    def of(cls, source: Distances, bench: HashingBench) -> "_Growing":
        """Rank the data set."""
        ranking = rank(source, bench.bench.task, k=1, doing="rank")
        distances, _ = source.pairs(ranking.judged_queries, ranking.judged)
        order = np.lexsort((distances, ranking.judged_queries))
        zeros = np.zeros(len(order), np.int64)
        return cls(ranking, order, distances[order], zeros, zeros.copy())

    def add(self, source: Distances) -> None:
        """Count the distractors of ``source``, whose database are images that match no query."""
        offsets = self.ranking.offsets
        for block in source.blocks():
            for query, row in zip(block.queries, block.distances, strict=True):
                own = slice(offsets[query], offsets[query + 1])
                judged = self.judged[own]  # ascending
                below, through = (
                    np.cumsum(np.bincount(np.searchsorted(judged, row, side), minlength=len(judged) + 1))
                    for side in cast(Sequence[Any], ("right", "left"))
                )
                self.nearer[own] += below[:-1]
                self.tied[own] += (through - below)[:-1]
        self.added += source.database

    def report(self, bench: HashingBench) -> Report:
        """Measure the data set with the distractors so far."""
        nearer, tied = self.ranking.nearer.copy(), self.ranking.tied.copy()
        found = nearer[self.order] >= 0
        at = self.order[found]
        nearer[at] += self.nearer[found]
        tied[at] += self.tied[found]
        size = self.ranking.database_size + self.added
        grown = replace(self.ranking, nearer=nearer, tied=tied, database_size=size)
        run = bench.run
        ties = "expected" if run.ties == "stable" else run.ties  # distractors have no number
        return evaluate(grown, bench.bench.task, ties=ties, seed=run.seed)


def _named(coders: Sequence[Coder], rankings: Sequence[_Growing]) -> list[tuple[str, _Growing]]:
    return [(str(coder.compared), ranking) for coder, ranking in zip(coders, rankings, strict=True)]


def _views(bench: HashingBench, count: int) -> Iterator[np.ndarray]:
    """Yield the descriptors [n, D] of ``count`` readable views of the fit photos, block by block.

    Raises:
        InputError: no fit photo can be read.
    """
    describe = bench.bench.fitted(bench.run.describer)
    photos, left, copy = bench.bench.fit_set.images, count, FIRST_COPY
    while left:
        images, before = photos.with_view(RandomView(seed=bench.run.seed, copy=copy)), left
        for start in range(0, len(images), BLOCK):
            rows = describe(images.subset(range(start, min(start + BLOCK, start + left, len(images)))))
            rows = rows[np.isfinite(rows[:, 0])][:left]
            left -= len(rows)
            if len(rows):
                yield rows
            if not left:
                return
        if left == before:
            raise InputError("none of the fit photos can be read, so there are no distractors")
        copy += 1


def _stop_at(parts: Iterator[np.ndarray], counts: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (rows so far, part), where parts are cut so that every one of ``counts`` is reached."""
    done = 0
    for part in parts:
        cuts = [count - done for count in counts if done < count < done + len(part)]
        for piece in np.split(part, cuts):
            done += len(piece)
            yield done, piece


def _rows(
    bench: HashingBench, reports: Mapping[tuple[str, str], Mapping[int, Report]]
) -> list[dict[str, Any]]:
    size = len(bench.database)
    return [
        {
            "method": name,
            "distractors are": kind,
            "distractors": count,
            "images": size + count,
            "metric": metric,
            "value": report.means[metric],
            "low": report.intervals[metric][0],
            "high": report.intervals[metric][1],
            "queries": report.counts["queries"],
            "clusters": report.counts["clusters"],
        }
        for (name, kind), at in reports.items()
        for count, report in at.items()
        for metric in METRICS
        if metric in report.means
    ]


def _draw(rows: Sequence[Mapping[str, Any]], bench: HashingBench) -> Any:
    names = list(dict.fromkeys(row["method"] for row in rows))
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    figure = blank_figure(6.5 * len(metrics), 4.5)
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for number, name in enumerate(names):
            for kind, line in ((MEASURED, "-"), (SIMULATED, ":")):
                own = [
                    row
                    for row in rows
                    if (row["method"], row["distractors are"], row["metric"]) == (name, kind, metric)
                ]
                if own:
                    at = [row["images"] for row in own]
                    style = {"color": color(number), "marker": "o", "ms": 4, "ls": line}
                    axes.plot(at, [row["value"] for row in own], label=f"{name}, {kind}", **style)
                    ends = ([row["low"] for row in own], [row["high"] for row in own])
                    axes.fill_between(at, *ends, color=color(number), alpha=0.1, linewidth=0)
        axes.set_xscale("log")
        axes.set(xlabel="images in the database", ylabel=f"{label(metric)}, 95 % bands")
        axes.set_title(f"{bench.title}, distractors added", fontsize=10)
        axes.grid(alpha=0.3)
    panels[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _sentence(bench: HashingBench, reports: Mapping[tuple[str, str], Mapping[int, Report]], most: int) -> str:
    exact = reports["float", MEASURED][most]
    parts = []
    for (name, kind), at in reports.items():
        last = max(at)
        value = at[last].means["mAP"]
        interval = "[{:.3f}, {:.3f}]".format(*at[last].intervals["mAP"])
        said = f"{name} {value:.3f} {interval} with {last} {kind}"
        if kind == MEASURED and name != "float":
            said += f" ({paired(exact, at[last], 'mAP', bench.run.seed)} to the float descriptor)"
        elif kind == SIMULATED and most in at and last != most:
            real = reports[name, MEASURED][most].means["mAP"]
            said += f" (at {most} the simulation gives {at[most].means['mAP']:.3f}, photos gave {real:.3f})"
        parts.append(said)
    return (
        f"{bench.name}, {len(bench.database)} photos and distractors, {bench.run.bits} bits, mean average "
        f"precision: {'; '.join(parts)}. Distractors are random views of the fit photos; simulated codes "
        f"have Gaussian projections ({bench.footnote})."
    )
