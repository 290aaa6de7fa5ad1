"""Run folders read back: what each run was asked for, and what it measured.

A folder may have been written by others, so what it holds is checked before it is believed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

from niphash.errors import InputError
from niphash.evaluation.compare import PER_QUERY, overrides_of
from niphash.pipeline.reporting import METRICS
from niphash.plain import read_json_objects

#: One sentence, in the folder of a sweep's run that failed.
FAILURE = "error.txt"
LARGEST_METRICS = 64 * 2**20  # bytes; the names of skipped photos are in it
LARGEST_SENTENCE = 20_000  # characters
REMEDY = "run it again, or leave this folder out"


@dataclass(frozen=True)
class Measured:
    """What a run measured on one data set.

    Attributes:
        data: Name of the data set.
        entry: Of ``metrics.json``.
        per_query: The file with every query of the code, or of the descriptor where there is no code.
    """

    data: str
    entry: Mapping[str, Any]
    per_query: Path

    @property
    def what(self) -> str:
        """``code``, or ``descriptor`` where there is no code."""
        return "code" if self.entry.get("code") else "descriptor"

    def value(self, metric: str, what: str | None = None) -> float | None:
        """Return a mean, ``None`` where it was not measured."""
        return _number((self.entry.get(what or self.what) or {}).get(metric))

    def interval(self, metric: str) -> tuple[float | None, float | None]:
        """Return the 95 % interval of :meth:`value`."""
        intervals = self.entry[self.what].get("intervals")
        ends = intervals.get(metric) if isinstance(intervals, dict) else None
        if not isinstance(ends, list) or len(ends) != 2:
            return None, None
        return _number(ends[0]), _number(ends[1])

    @property
    def metrics(self) -> list[str]:
        """The names of what was measured."""
        found = self.entry[self.what]
        return [name for name in found if name != "average_precision" and _number(found[name]) is not None]


@dataclass(frozen=True)
class RunFolder:
    """One run, as its folder tells of it.

    Attributes:
        folder: The folder.
        overrides: What it was asked for, by key.
    """

    folder: Path
    overrides: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> "RunFolder":
        """Return the run in ``folder``; its files are read when they are asked for."""
        return cls(folder, overrides_of(folder) or {})

    @cached_property
    def measured(self) -> tuple[Measured, ...]:
        """What it measured, one entry a data set; none where it has not ended.

        Raises:
            InputError: ``metrics.json`` is damaged.
        """
        path = self.folder / METRICS
        if not path.is_file():
            return ()
        entries = read_json_objects(path, REMEDY, LARGEST_METRICS)
        return tuple(_measured(entry, path, len(entries) > 1) for entry in entries if "descriptor" in entry)

    @cached_property
    def failure(self) -> str | None:
        """Why it failed, in one sentence; ``None`` of a run that has not."""
        path = self.folder / FAILURE
        if self.measured or not path.is_file():
            return None
        return " ".join(_text(path).split())

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """The sentences of the studies that it answered."""
        return tuple(
            " ".join(_text(path).split())
            for path in sorted(self.folder.glob("*.txt"))
            if path.name != FAILURE and path.with_suffix(".csv").is_file()
        )

    @property
    def state(self) -> str:
        """``done``, ``failed`` or ``not finished``."""
        if self.failure is not None:
            return "failed"
        whole = self.measured or self.answers or (self.folder / METRICS).is_file()
        return "done" if whole else "not finished"


def find_runs(paths: Iterable[Path | str]) -> list[RunFolder]:
    """Return the runs in folders, at any depth, each once, numbered names in the order of their numbers.

    Raises:
        InputError: a folder is missing, or holds no run.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise InputError(f"{path}: no such folder; name run folders, or folders that hold some")
        marks = [*path.glob("**/.hydra/overrides.yaml"), *path.glob(f"**/{METRICS}")]
        folders = {mark.parent.parent if mark.parent.name == ".hydra" else mark.parent for mark in marks}
        if not folders:
            raise InputError(f"{path}: holds no run; name run folders, or folders that hold some")
        found.update(dict.fromkeys(sorted(folders, key=_in_order)))
    return [RunFolder.read(folder) for folder in found]


def _in_order(folder: Path) -> tuple[tuple[int, int, str], ...]:
    return tuple((0, int(p), "") if p.isdigit() and len(p) < 10 else (1, 0, p) for p in folder.parts)


def _measured(entry: Mapping[str, Any], path: Path, several: bool) -> Measured:
    data, code = entry.get("data"), entry.get("code")
    if not isinstance(data, str) or not isinstance(entry["descriptor"], dict):
        raise InputError(f"{path}: no metrics of a run; {REMEDY}")
    if code is not None and not isinstance(code, dict):
        raise InputError(f"{path}: no metrics of a run; {REMEDY}")
    name = f"{'code' if code else 'descriptor'}{f'_{data}' if several else ''}"
    if "/" in data or "\\" in data:
        raise InputError(f"{path}: no metrics of a run; {REMEDY}")
    return Measured(data, entry, path.parent / PER_QUERY.format(name))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)


def _text(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(LARGEST_SENTENCE)
