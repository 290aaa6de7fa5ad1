"""The runs of a sweep side by side: one table, one CSV, and a picture of the swept options."""

import csv
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from niphash.errors import InputError, writing
from niphash.evaluation.compare import DEFAULTS, compare_files, differing_options
from niphash.pipeline.reporting import print_table
from niphash.pipeline.run_folders import Measured, RunFolder, find_runs
from niphash.plain import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

log = logging.getLogger(__name__)

TABLE, PICTURE = "sweep.csv", "sweep.png"
#: Columns of ``sweep.csv`` beside the swept options, which stand between ``run`` and ``measured_on``.
VALUES = ("measured_on", "of", "metric", "value", "low", "high", "descriptor")
DIFFERENCES = ("against", "difference", "difference_low", "difference_high")
ERROR = "error"

Row = dict[str, Any]


def report_sweep(
    folder: Path, metric: str, reference: str | None = None, out: Path | None = None, seed: int = 0
) -> bool:
    """Print a table over the runs of a sweep; write ``sweep.csv`` and ``sweep.png``.

    Every run is compared with one of them, paired by query, with an interval over clusters of queries.

    Args:
        folder: Of the sweep.
        metric: What is compared: of the code, or of the descriptor where there is none.
        reference: Name of the run that the others are compared with; by default the first that ended.
        out: Where the files go; by default ``folder``.
        seed: Of the bootstrap.

    Returns:
        Whether a run failed, or has not ended; its reason is printed.

    Raises:
        InputError: there is no run, none of that name, no run measured ``metric``, or nothing can be written.
    """
    runs = find_runs([folder])
    options = differing_options([run.overrides for run in runs])
    rows = sweep_rows(runs, folder, options, metric, reference, seed)
    if any(row["value"] is not None for row in rows):
        print_table(sweep_table(rows, options, metric))
    for run in runs:
        for answer in run.answers:
            print(printable(f"run {_name(run, folder)}: {answer}"))
    out = folder if out is None else out
    with writing(out, "the table is printed; make room there, or name another folder"):
        out.mkdir(parents=True, exist_ok=True)
        _write(rows, options, out / TABLE)
        if drawn := [row for row in rows if row["value"] is not None]:
            draw_sweep(drawn, options, metric, out / PICTURE)
    print(f"table of {len(runs)} runs in {out / TABLE}")
    failed = [run for run in runs if run.state != "done"]
    if failed:
        sys.stdout.flush()
        print(f"{len(failed)} of {len(runs)} runs did not end well:", file=sys.stderr)
        for run in failed:
            why = run.failure or "not finished"
            print(printable(f"  run {_name(run, folder)} ({_asked(run, options)}): {why}"), file=sys.stderr)
    return bool(failed)


def sweep_rows(
    runs: Sequence[RunFolder],
    folder: Path,
    options: Sequence[str],
    metric: str,
    reference: str | None = None,
    seed: int = 0,
) -> list[Row]:
    """Return the rows of ``sweep.csv``: one for each run and data set, one for a run that failed.

    Raises:
        InputError: there is no run ``reference``, or no run measured ``metric``.
    """
    by_name = {_name(run, folder): run for run in runs}
    if reference is not None and reference not in by_name:
        raise InputError(f"reference={reference}: no such run; choose one of {', '.join(by_name)}")
    first = list(by_name.items())
    first.sort(key=lambda named: named[0] != reference)
    ended = [(run, one) for _, run in first for one in run.measured if one.value(metric) is not None]
    if not ended and (known := next((one.metrics for run in runs for one in run.measured), None)):
        raise InputError(f"metric={metric}: no run measured it; choose one of {', '.join(known)}")
    against: dict[str, tuple[RunFolder, Measured]] = {}
    for run, one in ended:
        against.setdefault(one.data, (run, one))
    rows = []
    for name, run in by_name.items():
        asked = {option: run.overrides.get(option, "") for option in options}
        blank = dict.fromkeys((*VALUES, *DIFFERENCES))
        if run.state != "done":
            rows.append({"run": name, **asked, **blank, ERROR: run.failure or "not finished"})
        for one in run.measured:
            base = against.get(one.data)
            rows.append(
                {
                    "run": name,
                    **asked,
                    **_values(one, metric),
                    **_difference(base, (run, one), folder, metric, seed),
                    ERROR: None,
                }
            )
    return rows


def _values(one: Measured, metric: str) -> Row:
    low, high = one.interval(metric)
    value, exact = one.value(metric), one.value(metric, "descriptor")
    return dict(zip(VALUES, (one.data, one.what, metric, value, low, high, exact), strict=True))


def _difference(
    base: tuple[RunFolder, Measured] | None,
    other: tuple[RunFolder, Measured],
    folder: Path,
    metric: str,
    seed: int,
) -> Row:
    """Return how much a run is above the reference; empty of the reference, and without common queries."""
    empty: Row = dict.fromkeys(DIFFERENCES)
    if base is None or base[0] is other[0] or other[1].value(metric) is None:
        return empty
    names = _name(base[0], folder), _name(other[0], folder)
    try:
        found = compare_files((base[1].per_query, other[1].per_query), names, metric, seed)
    except InputError as error:
        log.warning("run %s is not compared with run %s: %s", names[1], names[0], error)
        return empty
    ends = (None if end != end else end for end in found.interval)  # NaN of a single cluster
    return dict(zip(DIFFERENCES, (names[0], found.difference, *ends), strict=True))


def sweep_table(rows: Sequence[Row], options: Sequence[str], metric: str) -> "Table":
    """Return a Rich table, the best run of each data set first."""
    from rich.markup import escape
    from rich.table import Table

    several = len({row["measured_on"] for row in rows if row["measured_on"]}) > 1
    against = next((row["against"] for row in rows if row["against"]), None)
    heads = [
        "run",
        *options,
        *(["measured on"] if several else []),
        f"{metric} [95 % interval]",
        "descriptor",
    ]
    title = "" if against is None else f"differences: from run {against}, paired by query, over clusters"
    table = Table(*map(escape, heads), "difference [95 % interval]", caption=escape(title))
    failed_last = sorted(
        rows, key=lambda r: (r[ERROR] is not None, str(r["measured_on"]), -(r["value"] or -1.0))
    )
    for row in failed_last:
        cells = [
            row["run"],
            *(row[option] or "" for option in options),
            *([row["measured_on"]] if several else []),
        ]
        if row[ERROR] is not None:
            cells.append("failed")
        else:
            of = "" if row["of"] == "code" else " (descriptor)"
            cells += [f"{_with_interval(row, '')}{of}", _plain(row["descriptor"])]
            cells.append(_with_interval(row, "difference"))
        table.add_row(*(escape(printable(str(cell or ""))) for cell in cells))
    return table


def _with_interval(row: Row, name: str) -> str:
    sign, prefix = ("+", f"{name}_") if name else ("", "")
    value, low, high = row[name or "value"], row[f"{prefix}low"], row[f"{prefix}high"]
    if value is None:
        return ""
    if low is None or high is None:
        return f"{value:{sign}.4f}"
    return f"{value:{sign}.4f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _write(rows: Sequence[Row], options: Sequence[str], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        columns = ["run", *options, *VALUES, *DIFFERENCES, ERROR]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw_sweep(rows: Sequence[Row], options: Sequence[str], metric: str, path: Path) -> None:
    """Write a picture: a panel for each swept option, one point a run with its 95 % interval.

    Args:
        rows: Of runs that have a value.
        options: The swept options.
        metric: Name of the value.
        path: Of the picture (png, by suffix).
    """
    from matplotlib.figure import Figure

    shown = list(options) or ["run"]
    columns = min(len(shown), 3)
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(5.5 * columns, 4.2 * lines), layout="constrained")
    for place, option in enumerate(shown):
        hue = _hue(rows, [other for other in shown if other != option])
        _draw_option(figure.add_subplot(lines, columns, place + 1), rows, option, hue, metric)
    figure.savefig(path, dpi=120)


#: Okabe & Ito, *Color universal design* (2008): told apart by colour-blind readers.
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKS = "osD^vPX*"


def _hue(rows: Sequence[Row], others: Sequence[str]) -> str | None:
    """Return the option that colours the points of a panel: one of few values, in words if possible."""
    few = [option for option in others if 1 < len({row[option] for row in rows}) <= len(HUES)]
    worded = [option for option in few if _numbers([row[option] for row in rows]) is None]
    return next(iter(worded or few), None)


def _numbers(values: Sequence[str]) -> list[float] | None:
    try:
        return [float(value) for value in values]
    except ValueError:
        return None


def _draw_option(axes: "Axes", rows: Sequence[Row], option: str, hue: str | None, metric: str) -> None:
    names = list(dict.fromkeys(str(row[option]) for row in rows))
    numbers = _numbers(names)
    logarithmic = numbers is not None and min(numbers) > 0 and max(numbers) >= 8 * min(numbers)
    groups = list(dict.fromkeys(row[hue] for row in rows)) if hue else [None]
    for number, group in enumerate(groups):
        own = [row for row in rows if hue is None or row[hue] == group]
        aside = (number + 0.5) / len(groups) - 0.5  # set apart, so that no interval hides another
        if numbers is None:
            at = [names.index(str(row[option])) + 0.5 * aside for row in own]
        elif logarithmic:
            at = [float(row[option]) * (max(numbers) / min(numbers)) ** (0.04 * aside) for row in own]
        else:
            at = [float(row[option]) + 0.04 * aside * (max(numbers) - min(numbers)) for row in own]
        values = [row["value"] for row in own]
        errors = [[_error(row, end) for row in own] for end in ("low", "high")]
        label = None if hue is None else f"{hue}={group}" if group else f"{hue}: {DEFAULTS}"
        style: dict[str, Any] = {"color": HUES[number % len(HUES)], "fmt": MARKS[number % len(MARKS)]}
        axes.errorbar(at, values, yerr=errors, capsize=2, ms=5, lw=1, label=label, **style)
    if numbers is None:
        axes.set_xticks(range(len(names)), [name or DEFAULTS for name in names], rotation=30, ha="right")
    elif logarithmic:
        axes.set_xscale("log")
        if len(names) <= 8:
            axes.set_xticks(numbers, names)
            axes.minorticks_off()
    axes.set(xlabel=option, ylabel=f"{metric}, 95 % intervals")
    axes.grid(alpha=0.3)
    if hue is not None:
        axes.legend(fontsize=8)


def _error(row: Row, end: str) -> float:
    """Return how far an end of the interval is from the mean; 0 where there is none."""
    return 0.0 if row[end] is None else abs(row[end] - row["value"])


def _name(run: RunFolder, folder: Path) -> str:
    """Return the path of a run below the sweep's folder; its own name for the folder itself."""
    inside = run.folder.relative_to(folder)
    return inside.as_posix() if inside.parts else run.folder.resolve().name


def _asked(run: RunFolder, options: Sequence[str]) -> str:
    return " ".join(f"{key}={run.overrides[key]}" for key in options if key in run.overrides) or DEFAULTS
