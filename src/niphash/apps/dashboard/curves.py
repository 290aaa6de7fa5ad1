"""Training curves of many runs, read from ``csv/metrics.csv`` and drawn as SVG in the colours of the page."""

import csv
from collections.abc import Mapping, Sequence
from html import escape
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from niphash.plain import printable
from niphash.training.loggers import SHARE

CURVES = Path("csv") / "metrics.csv"
#: What is read of a file at most, and the points that are drawn of a curve.
MOST_LINES, MOST_COLUMNS, MOST_POINTS = 200_000, 500, 240
LONGEST_CELL = 4096
#: Columns that are no curves.
NO_CURVES = ("step", "epoch")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 340, 200, 52, 26, 8, 10
HUES = 8
DASHES = ("", "6 3", "2 3", "8 3 2 3")
BINS = 10

#: (step, value) points, in order.
Points = list[tuple[float, float]]


class Curves(NamedTuple):
    """What one run logged along its training.

    Attributes:
        lines: By name (``layer1/loss``).
        shares: By name (``layer1/activations``), of ten points of equal step the shares of ten bins.
    """

    lines: dict[str, Points]
    shares: dict[str, list[list[float]]]


def read_curves(folder: Path) -> Curves:
    """Return the curves of a run folder; none where it has no readable file of them."""
    path = folder / CURVES
    lines: dict[str, Points] = {}
    bins: dict[str, dict[int, Points]] = {}
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            reader = csv.DictReader(islice((line[: LONGEST_CELL * 16] for line in file), MOST_LINES))
            names = [name for name in (reader.fieldnames or [])[:MOST_COLUMNS] if name not in NO_CURVES]
            for number, row in enumerate(reader):
                step = _number(row.get("step"))
                for name in names:
                    value = _number(row.get(name))
                    if value is None or name.count("/") != name.rstrip("/").count("/"):
                        continue
                    share = SHARE.fullmatch(name)
                    points = (
                        lines.setdefault(name, [])
                        if share is None
                        else bins.setdefault(share[1], {}).setdefault(int(share[2]), [])
                    )
                    points.append((float(number) if step is None else step, value))
    except (OSError, csv.Error):
        return Curves({}, {})
    moving = {name: thinned(points) for name, points in lines.items() if len(points) > 1}
    return Curves(moving, {name: _columns(found) for name, found in bins.items()})


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except (TypeError, ValueError):
        return None
    return value if isfinite(value) else None


def thinned(points: Points) -> Points:
    """Return at most :data:`MOST_POINTS` of the points, evenly, the first and the last among them."""
    if len(points) <= MOST_POINTS:
        return points
    last = len(points) - 1
    return [points[round(place * last / (MOST_POINTS - 1))] for place in range(MOST_POINTS)]


def _columns(bins: Mapping[int, Points]) -> list[list[float]]:
    """Return the shares of the bins after each of at most 48 epochs."""
    length = min((len(points) for points in bins.values()), default=0)
    shown = (
        sorted({round(place * (length - 1) / 47) for place in range(48)}) if length > 48 else range(length)
    )
    return [[bins[bin_][epoch][1] if bin_ in bins else 0.0 for bin_ in range(BINS)] for epoch in shown]


def chart(title: str, lines: Sequence[tuple[int, str, Points]]) -> str:
    """Return a panel of one curve of several runs.

    Args:
        title: Name of the curve.
        lines: Number of the run (its colour and its dashes), its name, its points.
    """
    every = [point for _, _, points in lines for point in points]
    low_x, high_x = min(x for x, _ in every), max(x for x, _ in every)
    low_y, high_y = min(y for _, y in every), max(y for _, y in every)
    if high_y == low_y:
        low_y, high_y = low_y - 0.5, high_y + 0.5
    across = (WIDTH - LEFT - RIGHT) / ((high_x - low_x) or 1)
    up = (HEIGHT - BOTTOM - TOP) / (high_y - low_y)

    def place(x: float, y: float) -> str:
        return f"{LEFT + (x - low_x) * across:.1f},{HEIGHT - BOTTOM - (y - low_y) * up:.1f}"

    drawn = "".join(
        f'<polyline class="curve" {stroke(number)} points="{" ".join(place(x, y) for x, y in points)}">'
        f"<title>{_safe(name)}</title></polyline>"
        for number, name, points in lines
    )
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    axes = (
        f'<path class="frame" d="M{LEFT} {TOP}V{bottom}H{right}"/>'
        f'<text x="{LEFT - 4}" y="{TOP + 9}" text-anchor="end">{high_y:.3g}</text>'
        f'<text x="{LEFT - 4}" y="{bottom}" text-anchor="end">{low_y:.3g}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{low_x:.0f}</text>'
        f'<text x="{right}" y="{HEIGHT - 8}" text-anchor="end">step {high_x:.0f}</text>'
    )
    return _panel(title, f"{len(lines)} runs against the step", axes + drawn)


def share_map(title: str, run: str, columns: Sequence[Sequence[float]]) -> str:
    """Return a panel of a histogram along the training: a column an epoch, the share of each bin as shade."""
    across = (WIDTH - LEFT - RIGHT) / max(len(columns), 1)
    up = (HEIGHT - BOTTOM - TOP) / BINS
    most = max((share for column in columns for share in column), default=0.0) or 1.0
    cells = "".join(
        f'<rect class="cell" x="{LEFT + number * across:.1f}" y="{HEIGHT - BOTTOM - (bin_ + 1) * up:.1f}" '
        f'width="{across + 0.3:.1f}" height="{up:.1f}" opacity="{min(max(share / most, 0.0), 1.0):.2f}"/>'
        for number, column in enumerate(columns)
        for bin_, share in enumerate(column)
        if share > 0
    )
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    axes = (
        f'<path class="frame" d="M{LEFT} {TOP}V{bottom}H{right}"/>'
        f'<text x="{LEFT - 4}" y="{TOP + 9}" text-anchor="end">1</text>'
        f'<text x="{LEFT - 4}" y="{bottom}" text-anchor="end">0</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">first epoch</text>'
        f'<text x="{right}" y="{HEIGHT - 8}" text-anchor="end">last epoch</text>'
    )
    told = f"{run}: share of values in tenths, the darkest cell is {most:.2f}"
    return _panel(f"{title}, {run}", told, axes + cells, run)


def stroke(number: int) -> str:
    """Return the attributes of the line of run ``number``; 32 runs are told apart."""
    dash = DASHES[number // HUES % len(DASHES)]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'stroke="var(--hue{number % HUES})"{dashes}'


def _panel(title: str, told: str, inside: str, run: str | None = None) -> str:
    mark = "" if run is None else f' data-run="{_safe(run)}"'
    return (
        f'<figure class="panel"{mark} style="margin:0"><h3>{_safe(title)}</h3>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_safe(f"{title}: {told}")}">'
        f"{inside}</svg></figure>"
    )


def _safe(text: str) -> str:
    return escape(printable(text), quote=True)
