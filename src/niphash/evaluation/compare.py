"""Paired comparison of runs, query by query."""

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niphash.errors import InputError
from niphash.evaluation.evaluator import CLUSTER, QUERY
from niphash.evaluation.intervals import bootstrap_interval
from niphash.plain import read_yaml

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

log = logging.getLogger(__name__)

#: A run folder holds one such file for each thing it measured: ``per_query_code.csv``, ...
PER_QUERY = "per_query_{}.csv"

#: Overrides that say where files are, not what is run.
PLACES = ("paths.", "hydra.", "hydra/", "logger", "data.root", "fit.root")

#: Name of a run whose options are all at their defaults, where the others' are not.
DEFAULTS = "defaults"


@dataclass(frozen=True, eq=False)
class Comparison:
    """A run beside the reference, on the same queries.

    Attributes:
        what: What was measured, for instance ``code``.
        metric: Name of the metric.
        runs: Names of the two runs, the reference first.
        query_ids: The Q queries that both runs count.
        values: float64 [2, Q].
        clusters: int64 [Q], the cluster of each query.
        difference: Mean over queries of second - first.
        interval: 95 % interval of the difference, over clusters of queries; NaN for fewer than two clusters.
    """

    what: str
    metric: str
    runs: tuple[str, str]
    query_ids: tuple[str, ...]
    values: np.ndarray
    clusters: np.ndarray
    difference: float
    interval: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        first, second = self.values.mean(axis=1)
        return {
            "what": self.what,
            "metric": self.metric,
            "runs": list(self.runs),
            "means": [float(first), float(second)],
            "difference": self.difference,
            "interval": [None if np.isnan(end) else end for end in self.interval],
            "queries": len(self.query_ids),
            "clusters": len(np.unique(self.clusters)),
        }


def compare_runs(
    runs: Sequence[Path | str], metric: str = "mAP", seed: int = 0, reference: Path | str | None = None
) -> tuple[Comparison, ...]:
    """Compare run folders with one of them on everything that all measured.

    Args:
        runs: Two run folders or more, with ``per_query_*.csv`` files.
        metric: Which column to compare.
        seed: Seed of the bootstrap.
        reference: Which of ``runs`` the others are compared with; by default the first.

    Returns:
        For each thing measured, one comparison for each run but the reference.

    Raises:
        InputError: there are not two runs, the reference is none of them, a folder holds no such file, the
            runs share none, they answer different queries, a file is damaged or lacks the metric.
    """
    folders = _reference_first([Path(run) for run in runs], reference)
    names = run_names(folders)
    found = [{path.name for path in _files(folder)} for folder in folders]
    shared, every = sorted(set.intersection(*found)), sorted(set.union(*found))
    if not shared:
        raise InputError(
            f"{' and '.join(map(str, runs))} measured nothing in common; compare runs on one data set"
        )
    for name in every:
        absent = [run for run, files in zip(names, found, strict=True) if name not in files]
        if absent:
            log.warning("%s is left out: %s did not measure it", _what(name), ", ".join(absent))
    return tuple(
        compare_files((folders[0] / name, folder / name), (names[0], run), metric, seed)
        for name in shared
        for folder, run in zip(folders[1:], names[1:], strict=True)
    )


def comparison_table(comparisons: Sequence[Comparison]) -> "Table":
    """Return a Rich table: for each thing measured the reference, then a line for each other run."""
    from rich.markup import escape
    from rich.table import Table

    counts = comparisons[0].to_dict()
    table = Table(
        "",
        "run",
        "mean",
        "difference",
        "95 % interval",
        title=f"{comparisons[0].metric}, paired by query",
        caption=f"queries: {counts['queries']}, clusters: {counts['clusters']}",
    )
    for what, group in _by_what(comparisons):
        first = group[0]
        table.add_row(what, escape(first.runs[0]), f"{first.values[0].mean():.4f}", "", "")
        for one in group:
            mean, difference = f"{one.values[1].mean():.4f}", f"{one.difference:+.4f}"
            table.add_row("", escape(one.runs[1]), mean, difference, _interval(one))
    return table


def draw_comparisons(comparisons: Sequence[Comparison], path: Path | str) -> None:
    """Write a picture (png, by suffix): a panel a comparison, one point a query, run against reference."""
    from matplotlib.figure import Figure

    columns = min(len(comparisons), 3)
    rows = -(-len(comparisons) // columns)
    figure = Figure(figsize=(6 * columns, 6 * rows), layout="constrained")
    for place, comparison in enumerate(comparisons):
        _draw(comparison, figure.add_subplot(rows, columns, place + 1, aspect="equal"))
    figure.savefig(path, dpi=120)


def read_per_query(path: Path | str, metric: str) -> dict[str, tuple[float, int]]:
    """Return value and cluster of each query that counts, from a file of :meth:`Report.write_csv`.

    Raises:
        InputError: the file is missing or damaged, or lacks the metric or the clusters.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not a table of values per query ({error})") from error
    if header[:1] != [QUERY] or metric not in header:
        metrics = [name for name in header if name not in (QUERY, CLUSTER)]
        raise InputError(f"{path}: has no metric {metric}; it has {', '.join(metrics)}")
    if CLUSTER not in header:
        raise InputError(
            f"{path}: has no column {CLUSTER}, as an earlier version wrote it; run the evaluation again"
        )
    columns = header.index(metric), header.index(CLUSTER)
    values: dict[str, tuple[float, int]] = {}
    for line, row in enumerate(rows, start=2):
        try:
            query, value, cluster = row[0], float(row[columns[0]] or "nan"), int(row[columns[1]])
        except (IndexError, ValueError) as error:
            raise InputError(
                f"{path}, line {line}: not a query and its values; run the evaluation again"
            ) from error
        if query in values:
            raise InputError(
                f"{path}, line {line}: query {query} for the second time; run the evaluation again"
            )
        values[query] = value, cluster
    return {query: value for query, value in values.items() if np.isfinite(value[0])}


def run_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """Return a name for each run: the overrides in which the runs differ, as Hydra saved them.

    Those that only say where files are count where the others do not tell all runs apart; where none do, or
    a folder has none, the paths without the parts that all share.
    """
    given = [overrides_of(folder) for folder in folders]
    known = [overrides for overrides in given if overrides is not None]
    if len(known) == len(folders):
        differing = differing_options(known)
        for keys in ([key for key in differing if not key.startswith(PLACES)], differing):
            names = [" ".join(f"{key}={run[key]}" for key in keys if key in run) or DEFAULTS for run in known]
            if len(set(names)) == len(names):
                return tuple(names)
    return _path_names(folders)


def differing_options(overrides: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the keys in which runs differ, in the order in which they were given."""
    keys = dict.fromkeys(key for run in overrides for key in run)
    return [key for key in keys if len({run.get(key) for run in overrides}) > 1]


def overrides_of(folder: Path) -> dict[str, str] | None:
    """Return the overrides of a run by key, ``None`` where there is no readable list of them."""
    try:
        saved = read_yaml(folder / ".hydra" / "overrides.yaml", remedy="run it again")
    except InputError:
        return None
    if not isinstance(saved, list) or not all(isinstance(one, str) for one in saved):
        return None
    pairs = (override.partition("=") for override in saved)
    return {key: value for key, _, value in pairs}


def _path_names(folders: Sequence[Path]) -> tuple[str, ...]:
    paths = [list(folder.resolve().parts) for folder in folders]
    for end in (0, -1):
        while min(map(len, paths)) > 1 and len({parts[end] for parts in paths}) == 1:
            for parts in paths:
                del parts[end]
    return tuple("/".join(parts) for parts in paths)


def _reference_first(folders: list[Path], reference: Path | str | None) -> list[Path]:
    if len(folders) < 2:
        raise InputError(f"compare=[{','.join(map(str, folders))}]: name two run folders or more")
    if reference is None:
        return folders
    same = [folder for folder in folders if folder.resolve() == Path(reference).resolve()]
    if not same:
        raise InputError(f"reference={reference}: name one of the runs, {', '.join(map(str, folders))}")
    return [same[0], *(folder for folder in folders if folder is not same[0])]


def compare_files(paths: tuple[Path, Path], runs: tuple[str, str], metric: str, seed: int = 0) -> Comparison:
    """Compare two ``per_query_*.csv``.

    Args:
        paths: The reference, then the other.
        runs: Their names.
        metric: Which column to compare.
        seed: Seed of the bootstrap.

    Raises:
        InputError: a file is damaged or lacks the metric, or they answer different queries.
    """
    first, second = (read_per_query(path, metric) for path in paths)
    if first.keys() != second.keys():
        other = sorted(first.keys() ^ second.keys())[0]
        raise InputError(
            f"{paths[0]} and {paths[1]} answer different queries ({other}); compare runs on one data set"
        )
    if not first:
        raise InputError(f"{paths[0]}: no query has a relevant image, so there is nothing to compare")
    queries = sorted(first)
    values, clusters = (
        np.array([[run[q][part] for q in queries] for run in (first, second)]) for part in (0, 1)
    )
    # The runs may number their clusters in different orders; the pairs of numbers then still are one to one.
    pairs = np.unique(clusters, axis=1).shape[1]
    if any(len(np.unique(row)) != pairs for row in clusters):
        raise InputError(
            f"{paths[0]} and {paths[1]} group their queries differently; compare runs on one ground truth"
        )
    difference = values[1] - values[0]
    low, high = bootstrap_interval(difference[:, None], clusters[0], seed)[0]
    interval = float(low), float(high)
    mean = float(difference.mean())
    return Comparison(_what(paths[0].name), metric, runs, tuple(queries), values, clusters[0], mean, interval)


def _draw(comparison: Comparison, axes: "Axes") -> None:
    values, metric = comparison.values, comparison.metric
    top = max(1.0, values.max())
    better, worse = ((np.diff(values, axis=0)[0] * sign > 0).sum() for sign in (1, -1))
    axes.plot([0, top], [0, top], color="0.6", linewidth=1, zorder=0)
    axes.scatter(values[0], values[1], s=18, alpha=0.5, linewidths=0, color="tab:blue")
    axes.set(xlim=(-0.03 * top, 1.03 * top), ylim=(-0.03 * top, 1.03 * top))
    of_one = (
        metric.removeprefix("m") if metric.startswith("mAP") else metric
    )  # a mean of APs, the AP of a query
    axes.set_xlabel(f"{of_one} of a query, {comparison.runs[0]}")
    axes.set_ylabel(f"{of_one} of a query, {comparison.runs[1]}")
    axes.set_title(
        f"{comparison.what}: {comparison.difference:+.4f} [{_interval(comparison)}]\n"
        f"{better} of {len(comparison.query_ids)} queries better, {worse} worse",
        fontsize=11,
    )


def _interval(comparison: Comparison) -> str:
    low, high = comparison.interval
    return "one cluster, no interval" if np.isnan(low) else f"{low:+.4f} to {high:+.4f}"


def _by_what(comparisons: Sequence[Comparison]) -> Iterator[tuple[str, list[Comparison]]]:
    for what, group in groupby(comparisons, key=lambda one: one.what):
        yield what, list(group)


def _what(name: str) -> str:
    """Return ``code`` for ``per_query_code.csv``."""
    before, after = PER_QUERY.split("{}")
    return name.removeprefix(before).removesuffix(after)


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.glob(PER_QUERY.format("*")))
    if not found:
        raise InputError(f"{folder}: holds no {PER_QUERY.format('*')}; name the folder of a finished run")
    return found
