"""Charts as SVG text: curves with bands, and marks with intervals, in colours that the page gives.

Colours are CSS variables (``--s0`` ... ``--s7`` for series), so that one picture is light or dark as its page
is. Two series never share both colour and mark.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

#: Colours and marks; :func:`style` combines them.
COLOURS, MARKS = 8, "osD^vP*"
WIDTH, HEIGHT = 440, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 24, 14, 50
ROW, FOOT = 46, 46  # of a chart of marks: height of a row, of what stands below all rows
EDGE = 22  # of a chart of marks: what its outermost numbers need at either side
SIZE = 4.5  # of a mark
LETTER = 7.4  # widest that a letter of the page's font is on average


@dataclass(frozen=True)
class Point:
    """One measured or published value.

    Attributes:
        x: Place on the axis; unused in a chart of marks.
        value: The mean.
        low: Lower end of its 95 % interval, ``None`` where none is known.
        high: Upper end.
    """

    x: float
    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return interval_text(self.value, self.low, self.high)


@dataclass(frozen=True)
class Series:
    """Points of one label, in order of x."""

    label: str
    points: tuple[Point, ...]


def interval_text(value: float, low: float | None, high: float | None) -> str:
    """Return ``0.512 [0.480, 0.544]``, or the value alone."""
    return f"{value:.3f}" + ("" if low is None or high is None else f" [{low:.3f}, {high:.3f}]")


def style(number: int) -> tuple[str, str]:
    """Return CSS colour and mark of the series ``number``; 56 differ."""
    return f"var(--s{number % COLOURS})", MARKS[(number + number // COLOURS) % len(MARKS)]


def curves(series: Sequence[Series], x_label: str, y_label: str, log: bool = False) -> str:
    """Return an SVG of curves, each with a band for its intervals.

    Args:
        series: At least one, each with at least one point; x above 0 if ``log``.
        x_label: Name and unit of x.
        y_label: Name and unit of the values.
        log: Whether x is drawn on a logarithmic scale.
    """
    places = sorted({point.x for line in series for point in line.points})
    across = _scale(places[0], places[-1], LEFT, WIDTH - RIGHT, log)
    ticks = _ticks(*_range(series))
    up = _scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = [
        *(_grid_across(up(tick), _number(tick)) for tick in ticks),
        *(_tick_below(across(x), _number(x)) for x in _spread(places, across)),
        _text(WIDTH / 2 + LEFT / 2, HEIGHT - 8, x_label, "middle"),
        f'<text transform="rotate(-90)" x="{-(HEIGHT - BOTTOM + TOP) / 2:.1f}" y="14" '
        f'text-anchor="middle">{escape(y_label)}</text>',
        *(_band(line, number, across, up) for number, line in enumerate(series)),
        *(_curve(line, number, across, up) for number, line in enumerate(series)),
    ]
    return _svg(HEIGHT, f"{y_label} against {x_label}", parts)


def marks(series: Sequence[Series], x_label: str) -> str:
    """Return an SVG with a row for each series: its label, its first value as a mark, its interval.

    Args:
        series: One a row, from the top; only the first point of each is drawn.
        x_label: Name and unit of the values.
    """
    low, high = _range(series)
    ticks = _ticks(low, high)
    across = _scale(ticks[0], ticks[-1], EDGE, WIDTH - EDGE)
    floor = ROW * len(series) + 6
    parts = [
        *(_line(across(t), 4, across(t), floor, "grid") for t in ticks),
        *(_text(across(t), floor + 16, _number(t), "middle") for t in ticks),
        _text(WIDTH / 2, floor + 36, x_label, "middle"),
    ]
    for number, row in enumerate(series):
        point, top = row.points[0], ROW * number
        colour, mark = style(number)
        y = top + 27
        letters = int(WIDTH / LETTER) - len(str(point)) - 2
        parts.append(_text(2, top + 14, _cut(row.label, letters), "start", "strong"))
        parts.append(_text(WIDTH - 2, top + 14, str(point), "end"))
        if point.low is not None and point.high is not None:
            left, right = across(point.low), across(point.high)
            parts.append(
                f'<rect x="{left:.1f}" y="{y - 5}" width="{max(right - left, 0.5):.1f}" height="10" '
                f'fill="{colour}" class="band"/>'
            )
        parts.append(_mark(across(point.value), y, colour, mark, f"{row.label}: {point}"))
    return _svg(floor + FOOT, x_label, parts)


def swatch(number: int) -> str:
    """Return a small SVG for the legend: line and mark of the series ``number``."""
    colour, mark = style(number)
    line = f'<path d="M0 8H28" stroke="{colour}" class="curve"/>'
    shape = _shape(14, 8, colour, mark)
    return f'<svg class="swatch" viewBox="0 0 28 16" aria-hidden="true">{line}{shape}</svg>'


def _range(series: Iterable[Series]) -> tuple[float, float]:
    """Return the least and the greatest number that is drawn."""
    numbers = [
        number
        for line in series
        for point in line.points
        for number in (point.value, point.low, point.high)
        if number is not None and math.isfinite(number)
    ]
    return min(numbers), max(numbers)


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers, four to seven, that enclose ``low`` to ``high``."""
    span = max(high - low, 1e-3)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _scale(low: float, high: float, start: float, end: float, log: bool = False) -> Callable[[float], float]:
    """Return the function that brings ``low`` to ``start`` and ``high`` to ``end``."""
    change: Callable[[float], float] = math.log if log else float
    a, b = change(low), change(high)
    if b == a:
        return lambda value: (start + end) / 2
    return lambda value: start + (change(value) - a) / (b - a) * (end - start)


def _spread(places: Sequence[float], across: Callable[[float], float]) -> list[float]:
    """Return those of ``places`` whose numbers do not run into each other."""
    kept: list[float] = []
    for place in places:
        if not kept or across(place) - across(kept[-1]) >= 34:
            kept.append(place)
    return kept


def _number(value: float) -> str:
    for unit, letter in ((1_000_000, "M"), (1000, "k")):
        if abs(value) >= max(unit, 10_000):
            return f"{value / unit:.3g}{letter}"
    return f"{round(value, 4):g}"


def _cut(text: str, letters: int) -> str:
    """Return so many letters of a text at most; the whole one is the title of its mark."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _svg(height: float, description: str, parts: Iterable[str]) -> str:
    said = escape(description, quote=True)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{said}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str, css: str = "") -> str:
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="{css}"/>'


def _grid_across(y: float, text: str) -> str:
    return _line(LEFT, y, WIDTH - RIGHT, y, "grid") + _text(LEFT - 6, y + 4, text, "end")


def _tick_below(x: float, text: str) -> str:
    y = HEIGHT - BOTTOM
    return _line(x, y, x, y + 5, "axis") + _text(x, y + 20, text, "middle")


def _band(line: Series, number: int, across: Callable, up: Callable) -> str:
    known = [(p.x, p.low, p.high) for p in line.points if p.low is not None and p.high is not None]
    if not known:
        return ""
    edge = [(across(x), up(high)) for x, _, high in known] + [
        (across(x), up(low)) for x, low, _ in reversed(known)
    ]
    colour = style(number)[0]
    if len(known) == 1:  # a band without width is a line
        (x, top), (_, bottom) = edge
        return f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}" stroke="{colour}" class="whisker"/>'
    return f'<path d="M{_joined(edge)}Z" fill="{colour}" class="band"/>'


def _curve(line: Series, number: int, across: Callable, up: Callable) -> str:
    colour, mark = style(number)
    at = [(across(point.x), up(point.value)) for point in line.points]
    drawn = f'<path d="M{_joined(at)}" stroke="{colour}" class="curve"/>'
    return drawn + "".join(
        _mark(x, y, colour, mark, f"{line.label}, {_number(point.x)}: {point}")
        for (x, y), point in zip(at, line.points, strict=True)
    )


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _mark(x: float, y: float, colour: str, mark: str, title: str) -> str:
    return f"<g><title>{escape(title)}</title>{_shape(x, y, colour, mark)}</g>"


def _shape(x: float, y: float, colour: str, mark: str) -> str:
    r = SIZE
    if mark == "o":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="{colour}" class="mark"/>'
    corners = {
        "s": [(-r, -r), (r, -r), (r, r), (-r, r)],
        "D": [(0, -1.4 * r), (1.4 * r, 0), (0, 1.4 * r), (-1.4 * r, 0)],
        "^": [(0, -1.3 * r), (1.2 * r, r), (-1.2 * r, r)],
        "v": [(0, 1.3 * r), (1.2 * r, -r), (-1.2 * r, -r)],
        "P": _star(4, 0.4),
        "*": _star(5, 0.45),
    }[mark]
    return f'<path d="M{_joined((x + dx, y + dy) for dx, dy in corners)}Z" fill="{colour}" class="mark"/>'


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    """Return the corners of a star of ``points`` points."""
    radii = (1.5 * SIZE, 1.5 * SIZE * inner)
    angles = [math.pi * corner / points - math.pi / 2 for corner in range(2 * points)]
    return [
        (radii[corner % 2] * math.cos(angle), radii[corner % 2] * math.sin(angle))
        for corner, angle in enumerate(angles)
    ]
