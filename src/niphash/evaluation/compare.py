"""Paired comparison of two runs, query by query."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niphash.errors import InputError
from niphash.evaluation.bootstrap import bootstrap_interval

if TYPE_CHECKING:
    from rich.table import Table

#: A run folder holds one such file for each thing it measured: ``per_query_code.csv``, ...
PER_QUERY = "per_query_{}.csv"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs on the same queries.

    Attributes:
        what: What was measured, for instance ``code``.
        metric: Name of the metric.
        runs: Names of the two runs.
        query_ids: The Q queries that both runs count.
        values: float64 [2, Q].
        difference: Mean over queries of second - first.
        interval: Bootstrap 95 % interval of the difference; queries are drawn in pairs.
    """

    what: str
    metric: str
    runs: tuple[str, str]
    query_ids: tuple[str, ...]
    values: np.ndarray
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
            "interval": list(self.interval),
            "queries": len(self.query_ids),
        }

    def draw(self, path: Path | str) -> None:
        """Write a picture (png, by suffix) with one point a query: second run against first."""
        from matplotlib.figure import Figure

        top = max(1.0, self.values.max() if self.values.size else 1.0)
        better, worse = ((np.diff(self.values, axis=0)[0] * sign > 0).sum() for sign in (1, -1))
        figure = Figure(figsize=(6, 6), layout="constrained")
        axes = figure.add_subplot(aspect="equal")
        axes.plot([0, top], [0, top], color="0.6", linewidth=1, zorder=0)
        axes.scatter(self.values[0], self.values[1], s=18, alpha=0.5, linewidths=0, color="tab:blue")
        axes.set(xlim=(-0.03 * top, 1.03 * top), ylim=(-0.03 * top, 1.03 * top))
        of_one = self.metric.removeprefix("m")  # a mean of APs, but the AP of a query
        axes.set_xlabel(f"{of_one} of a query, {self.runs[0]}")
        axes.set_ylabel(f"{of_one} of a query, {self.runs[1]}")
        low, high = self.interval
        axes.set_title(
            f"{self.what}: {self.difference:+.4f} [{low:+.4f}, {high:+.4f}]\n"
            f"{better} of {len(self.query_ids)} queries better, {worse} worse",
            fontsize=11,
        )
        figure.savefig(path, dpi=120)


def compare_runs(
    first: Path | str, second: Path | str, metric: str = "mAP", seed: int = 0
) -> tuple[Comparison, ...]:
    """Compare two run folders on everything that both measured.

    Args:
        first: Run folder with ``per_query_*.csv`` files.
        second: Another run on the same queries.
        metric: Which column to compare.
        seed: Of the bootstrap.

    Raises:
        InputError: a folder holds no such file, the two share none, they answer different queries, a file
            is damaged or lacks the metric.
    """
    folders = Path(first), Path(second)
    shared = sorted(set.intersection(*({p.name for p in _files(folder)} for folder in folders)))
    if not shared:
        raise InputError(f"{first} and {second} measured nothing in common; compare runs on one data set")
    runs = _names(*folders)
    return tuple(_compare([folder / name for folder in folders], runs, metric, seed) for name in shared)


def comparison_table(comparisons: Sequence[Comparison]) -> "Table":
    """Return a Rich table: one line for each thing measured."""
    from rich.table import Table

    metric, runs = comparisons[0].metric, comparisons[0].runs
    table = Table("", *runs, "difference", "95 % interval", "queries", title=f"{metric}, paired by query")
    for c in comparisons:
        (a, b), (low, high) = c.values.mean(axis=1), c.interval
        cells = (f"{a:.4f}", f"{b:.4f}", f"{c.difference:+.4f}", f"{low:+.4f} to {high:+.4f}")
        table.add_row(c.what, *cells, str(len(c.query_ids)))
    return table


def read_per_query(path: Path | str, metric: str) -> dict[str, float]:
    """Return a metric's value of each query that counts, from a file of :meth:`Report.write_csv`.

    Raises:
        InputError: the file is missing or damaged, or lacks the metric.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not a table of values per query ({error})") from error
    if header[:1] != ["query"] or metric not in header:
        raise InputError(f"{path}: has no metric {metric}; it has {', '.join(header[1:])}")
    column = header.index(metric)
    values: dict[str, float] = {}
    for line, row in enumerate(rows, start=2):
        try:
            query, value = row[0], float(row[column] or "nan")
        except (IndexError, ValueError) as error:
            raise InputError(
                f"{path}, line {line}: not a query and its values; run the evaluation again"
            ) from error
        if query in values:
            raise InputError(
                f"{path}, line {line}: query {query} for the second time; run the evaluation again"
            )
        values[query] = value
    return {query: value for query, value in values.items() if np.isfinite(value)}


def _compare(paths: Sequence[Path], runs: tuple[str, str], metric: str, seed: int) -> Comparison:
    first, second = (read_per_query(path, metric) for path in paths)
    if first.keys() != second.keys():
        other = sorted(first.keys() ^ second.keys())[0]
        raise InputError(
            f"{paths[0]} and {paths[1]} answer different queries ({other}); compare runs on one data set"
        )
    if not first:
        raise InputError(f"{paths[0]}: no query has a relevant image, so there is nothing to compare")
    queries = sorted(first)
    values = np.array([[run[query] for query in queries] for run in (first, second)])
    difference = values[1] - values[0]
    low, high = bootstrap_interval(difference[:, None], seed)[0]
    what = paths[0].stem.removeprefix(PER_QUERY.format("").removesuffix(".csv"))
    return Comparison(
        what, metric, runs, tuple(queries), values, float(difference.mean()), (float(low), float(high))
    )


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.glob(PER_QUERY.format("*")))
    if not found:
        raise InputError(f"{folder}: holds no {PER_QUERY.format('*')}; name the folder of a finished run")
    return found


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Return the two paths without the parts that they share at either end."""
    a, b = list(first.resolve().parts), list(second.resolve().parts)
    while min(len(a), len(b)) > 1 and a[0] == b[0]:
        a, b = a[1:], b[1:]
    while min(len(a), len(b)) > 1 and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return "/".join(a), "/".join(b)
