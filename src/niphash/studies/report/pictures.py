"""From the table of a study, or from published numbers, to charts: columns decide how it is drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from niphash.studies.measured import label
from niphash.studies.report.chart import Point, Series, curves, marks, swatch

#: A row of a study's CSV file: text by the name of its column.
Row = Mapping[str, str]

#: Columns that lie along an axis: its name and unit.
AXES = {
    "degrees": "angle of the query [degrees]",
    "ratio": "size of the query [part of 640 pixels]",
    "bits": "code length [bits]",
    "layers": "layers of the stack",
    "layer": "layer of the stack",
    "iterations": "iterations of fine-tuning",
    "fit_photos": "fit photos",
    "images": "images in the database",
}
LOGARITHMIC = {"ratio", "bits", "fit_photos", "images"}
#: Columns that hold the value; what stands before them says what it is of, what stands behind remarks on it.
VALUES = ("value", "distance")
#: Columns of words before it that name no curve.
REMARKS = {"metric", "sizes", "question", "query", "match"}


@dataclass(frozen=True)
class Picture:
    """A chart as SVG, and a swatch (SVG) beside each label of its legend; none where rows are labelled."""

    svg: str
    legend: tuple[tuple[str, str], ...] = ()


def pictures(rows: Sequence[Row]) -> list[Picture]:
    """Draw what a table holds, a picture for each metric of each part of it.

    Args:
        rows: With a column of :data:`VALUES`; before it a column of :data:`AXES` where the numbers lie along
            one, and any columns of words as labels; ``low`` and ``high`` where there are intervals; ``part``
            where a table holds several.
    """
    drawn = [row for row in rows if _value(row) is not None and row.get("what") != "single pair"]
    found = []
    for part in _apart(drawn, "part"):
        words = [column for column in _telling(part) if column not in REMARKS and _has_words(part, column)]
        found += [_picture(own, words) for own in _apart(part, "metric")]
    return found


def _apart(rows: Sequence[Row], column: str) -> list[list[Row]]:
    """Return the rows of each value of ``column``, in order of the first."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.get(column, ""), []).append(row)
    return list(found.values())


def _telling(rows: Sequence[Row]) -> list[str]:
    """Return the columns before the value that tell rows apart."""
    before = _before(rows[0], _value_column(rows[0]))
    return [column for column in before if len({row[column] for row in rows}) > 1]


def _has_words(rows: Sequence[Row], column: str) -> bool:
    return any(row[column] and _number(row[column]) is None for row in rows)


def _picture(rows: Sequence[Row], words: Sequence[str]) -> Picture:
    """Draw the rows of one metric; ``words`` are the columns that label them."""
    what = "L2 distance of descriptors" if _value_column(rows[0]) == "distance" else "mean over queries"
    what = label(rows[0]["metric"]) if rows[0].get("metric") else what
    telling = _telling(rows)
    axis = next((name for name in AXES if name in telling and not _has_words(rows, name)), None)
    series = _series(rows, axis, words)
    if axis is None or all(len(line.points) == 1 for line in series):
        return Picture(marks(series, what))
    svg = curves(series, AXES[axis], what, axis in LOGARITHMIC)
    return Picture(svg, tuple((swatch(number), line.label) for number, line in enumerate(series)))


def _before(row: Row, value: str) -> list[str]:
    columns = list(row)
    return columns[: columns.index(value)]


def _series(rows: Sequence[Row], axis: str | None, words: Sequence[str]) -> list[Series]:
    found: dict[str, dict[float, Point]] = {}
    for row in rows:
        name = ", ".join(row[column] for column in words if row[column]) or row.get("metric") or "value"
        x = 0.0 if axis is None else _number(row[axis])
        if x is not None:
            found.setdefault(name, {}).setdefault(x, _point(row, x))
    return [Series(name, tuple(at[x] for x in sorted(at))) for name, at in found.items()]


def _point(row: Row, x: float) -> Point:
    value = _value(row)
    assert value is not None
    return Point(x, value, _number(row.get("low")), _number(row.get("high")))


def _value(row: Row) -> float | None:
    return _number(row[_value_column(row)])


def _value_column(row: Row) -> str:
    """Return the column that holds the value; ``distance`` names the distance of codes where there is one."""
    return next(column for column in VALUES if column in row)


def _number(text: str | None) -> float | None:
    """Return a finite number, or ``None`` for any other text."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
