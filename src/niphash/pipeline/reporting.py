"""What a run leaves behind: metrics.json, per-query CSV, ranking.png, and a table on the terminal."""

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ImageOps

from niphash.data.images import ImageSet, UnreadableImage
from niphash.data.names import portable_name
from niphash.data.writing import write_whole
from niphash.errors import InputError, writing
from niphash.evaluation.compare import PER_QUERY
from niphash.evaluation.evaluator import results_table
from niphash.evaluation.ranking_sheet import (
    best_and_worst,
    precision_with_results,
    ranking_sheet,
    save_sheet,
    verdict_of,
)
from niphash.model import Model
from niphash.pipeline.measuring import Measurement, Stopwatch
from niphash.pipeline.run import Run
from niphash.plain import printable
from niphash.training.loggers import Picture, Table, log_results

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger
    from rich.table import Table as TerminalTable

log = logging.getLogger(__name__)

METRICS = "metrics.json"
UNWRITTEN = "the numbers are printed; make room there, or name another folder by hydra.run.dir"


def run_entry(
    measurement: Measurement,
    model: Model,
    watch: Stopwatch,
    seed: int,
    ties: str,
    choices: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return one entry of ``metrics.json`` (layout in the documentation's "What a run writes").

    Args:
        measurement: What was measured.
        model: What it was measured with.
        watch: Seconds of each part of the work.
        seed: Of the run.
        ties: The tie rule.
        choices: The configuration's choices by group: ``{"backbone": "squeezenet", "hashing": "itq", ...}``.
    """
    task = measurement.task
    return {
        "data": task.name,
        "choices": dict(choices or {}),
        "protocol": task.protocol,
        "ties": ties,
        "subset": task.subset,
        "transductive": measurement.transductive,
        "bits": model.bits or None,
        "distance": measurement.distance,
        "seed": seed,
        "index": None if measurement.index is None else asdict(measurement.index),
        "descriptor": measurement.descriptor.to_dict(),
        "code": None if measurement.code is None else measurement.code.to_dict(),
        "reranked": _reranked(measurement),
        "calibration": None if measurement.calibration is None else measurement.calibration.to_dict(),
        "images": {
            "read": measurement.read,
            "skipped": len(measurement.skipped),
            "blank": measurement.blank,
            "database": len(task.database),
            "queries": len(task.queries),
            "skipped_files": measurement.skipped,
        },
        "fit_set": model.record.get("fit_set"),
        "notes": list(task.notes),
        "seconds": {part: round(seconds, 3) for part, seconds in watch.seconds.items()},
    }


def _reranked(measurement: Measurement) -> dict[str, Any] | None:
    """Return what re-ranking brought to ``descriptor`` and ``code``, ``None`` where nothing was re-ranked."""
    if measurement.reranker is None:
        return None
    return {
        "by": type(measurement.reranker).__name__,
        "first": measurement.reranker.first,
        **{name: gain.to_dict() for name, gain in measurement.reranked.items()},
    }


#: Metrics that every evaluation has, and those of one depth; the revisited sets add ``_easy``, ``_hard``.
METRIC_NAMES = re.compile(r"(mAP|ukb|(recall|hit_rate|precision|mP)@[1-9]\d*)(_\w+)?")


def check_objective(metric: str, run: Run) -> None:
    """Refuse ``objective`` before any work where no run has such a metric.

    Raises:
        InputError: it is no metric.
    """
    if metric not in run.metrics and not METRIC_NAMES.fullmatch(str(metric)):
        raise InputError(f"objective={metric}: no such metric; give one such as mAP, ukb or recall@10")


def objective(entries: Sequence[Mapping[str, Any]], metric: str) -> float:
    """Return ``metric`` on the first data set, of the code or, without one, of the descriptor.

    A sweeper makes it large.

    Raises:
        InputError: it was not measured there.
    """
    measured = entries[0]["code"] or entries[0]["descriptor"]
    value = measured.get(metric)
    if not isinstance(value, float):
        known = ", ".join(name for name, found in measured.items() if isinstance(found, float))
        raise InputError(f"objective={metric}: not measured on {entries[0]['data']}; it has {known}")
    return value


def report_run(
    entries: list[dict[str, Any]],
    measurements: list[Measurement],
    run_dir: Path,
    loggers: "Sequence[Logger]",
    metric: str = "mAP",
) -> None:
    """Print the tables, write the per-query CSVs, the pictures and, last, ``metrics.json``; log them.

    Args:
        entries: Of ``metrics.json``.
        measurements: What they were made of.
        run_dir: The run folder.
        loggers: Show means, pictures, and the best and the worst queries.
        metric: What runs are compared by, see :func:`objective`.

    Raises:
        InputError: a file cannot be written; everything has been printed before.
    """
    for entry, measurement in zip(entries, measurements, strict=True):
        print_measurement(entry, measurement)
    sys.stdout.flush()
    for entry, measurement in zip(entries, measurements, strict=True):
        suffix = "" if len(entries) == 1 else f"_{entry['data']}"
        with writing(run_dir, UNWRITTEN):
            run_dir.mkdir(parents=True, exist_ok=True)
            picture = _write_queries(measurement, run_dir, suffix)
            if loggers:
                first = entry is entries[0]
                log_results(
                    loggers,
                    _flat(entry),
                    picture,
                    {f"queries{suffix}": queries_table(measurement)},
                    objective(entries, metric) if first else None,
                )
    # a run that has it is whole
    write_json(entries[0] if len(entries) == 1 else entries, run_dir / METRICS)
    print(f"written to {run_dir}")


def _write_queries(measurement: Measurement, run_dir: Path, suffix: str) -> Path:
    """Write ``per_query_*.csv`` and ``ranking.png``; return the picture's path."""
    reports = {"descriptor": measurement.descriptor, "code": measurement.code}
    reports |= {f"reranked_{name}": gain.after for name, gain in measurement.reranked.items()}
    for name, report in reports.items():
        if report is not None:
            path = run_dir / PER_QUERY.format(f"{name}{suffix}")
            report.write_csv(path, measurement.task.queries.ids)
    shown = "descriptor" if measurement.code is None else "code"
    report = reports[shown] or measurement.descriptor
    sheet = ranking_sheet(measurement.rankings[shown], measurement.task, report.per_query["mAP"])
    picture = run_dir / f"ranking{suffix}.png"
    save_sheet(sheet, picture)
    return picture


#: Of the table of queries on a dashboard: queries of either end, results of a query, longer side in pixels.
QUERIES, RESULTS, SIDE = 10, 5, 160


def queries_table(measurement: Measurement) -> Table:
    """Return the best and the worst queries that found anything with their first results, as pictures.

    The captions say which results are right; a photo that cannot be read leaves its cell empty.
    """
    shown = "descriptor" if measurement.code is None else "code"
    report = measurement.descriptor if measurement.code is None else measurement.code
    ranking, task, precision = measurement.rankings[shown], measurement.task, report.per_query["mAP"]
    own, count = task.own_photos(), min(RESULTS, ranking.ids.shape[1])
    chosen = best_and_worst(precision_with_results(ranking, precision), QUERIES)
    rows: list[list[Any]] = []
    for place, queries in zip(("best", "worst"), chosen, strict=True):
        for query in queries.tolist():
            row: list[Any] = [place, portable_name(task.queries.ids[query]), float(precision[query])]
            row.append(_picture(task.queries, query, "query"))
            for image, distance in zip(
                ranking.ids[query, :count].tolist(), ranking.distances[query, :count].tolist(), strict=True
            ):
                verdict = verdict_of(task.relevance[query], image, int(own[query])).word
                name = portable_name(task.database.ids[image])
                caption = f"{verdict}, distance {distance:.4g}: {name}"
                row.append(None if image < 0 else _picture(task.database, image, caption))
            rows.append(row)
    columns = ["place", "query", "AP", "photo", *(f"result {number + 1}" for number in range(count))]
    return Table(columns, rows)


def _picture(images: ImageSet, row: int, caption: str) -> Picture | None:
    try:
        return Picture(ImageOps.contain(images.image(row), (SIDE, SIDE)), printable(caption))
    except UnreadableImage:
        return None


def _flat(entry: dict[str, Any]) -> dict[str, float]:
    """Return ``{"<data>/code/mAP": ...}``: what a dashboard plots."""
    return {
        f"{entry['data']}/{block}/{name}": value
        for block, values in _blocks(entry)
        for name, value in values.items()
        if isinstance(value, float)
    }


def _blocks(entry: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    reranked = entry["reranked"] or {}
    for name in ("descriptor", "code"):
        yield name, entry[name] or {}
        yield f"reranked/{name}", reranked.get(name) or {}


def write_json(value: Any, path: Path) -> None:
    """Write plain values to ``path``, whole or not at all; its folder is made when missing.

    Raises:
        InputError: it cannot be written.
    """
    with writing(path, UNWRITTEN):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def print_table(table: "TerminalTable") -> None:
    """Print a Rich table, whole where the output is no terminal."""
    from rich.console import Console

    Console(soft_wrap=True).print(table)


def print_measurement(entry: dict[str, Any], measurement: Measurement) -> None:
    """Print the descriptor and the code side by side, with the protocol and what the reader must know."""
    reports = {"descriptor (float)": measurement.descriptor}
    if measurement.code is not None:
        reports[f"code ({entry['bits']} bits, {entry['distance']})"] = measurement.code
    reports |= {f"{name}, re-ranked": gain.after for name, gain in measurement.reranked.items()}
    print_table(results_table(reports, title=_title(entry)))
    print(f"protocol: {entry['protocol']}; ties: {entry['ties']}")
    for sentence in _remarks(entry, measurement):
        print(sentence)


def _title(entry: dict[str, Any]) -> str:
    images = entry["images"]
    subset = "" if entry["subset"] is None else " (a subset)"
    return f"{entry['data']}: {images['queries']} queries, {images['database']} database images{subset}"


def _remarks(entry: dict[str, Any], measurement: Measurement) -> list[str]:
    images = entry["images"]
    remarks = list(entry["notes"])
    if entry["transductive"]:
        remarks.insert(0, "TRANSDUCTIVE: fitted on images that it is tested on.")
    if images["skipped"]:
        names = "; ".join(f"{f['id']} ({f['reason']})" for f in images["skipped_files"][:5])
        more = " ..." if images["skipped"] > 5 else ""
        remarks.append(f"{images['skipped']} photos skipped: {names}{more}")
    index = entry["index"]
    if index is not None and index["differing"]:
        remarks.append(
            f"{index['kind']} finds other photos than the exhaustive ranking for {index['differing']} of "
            f"{images['queries']} queries; the numbers are those of the ranking."
        )
    for name, gain in measurement.reranked.items():
        low, high = gain.intervals["mAP"]
        remarks.append(
            f"{type(measurement.reranker).__name__} re-ranking of the first {entry['reranked']['first']} "
            f"changes mAP of the {name} by {gain.difference['mAP']:+.4f} [{low:.4f}, {high:.4f}] and takes "
            f"{gain.milliseconds:.1f} ms of processor time a query."
        )
    if images["blank"]:
        remarks.append(
            f"{images['blank']} photos without any local descriptor: they find nothing, nothing finds them."
        )
    return remarks
