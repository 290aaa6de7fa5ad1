"""The two kinds of picture that studies draw: curves with bands, and dots with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: How published numbers look: never to be taken for ours.
PUBLISHED: dict[str, Any] = {"color": "0.45", "markerfacecolor": "white", "zorder": 3}
MARKERS = "sD^v<>Ph"


class Dot(NamedTuple):
    """One measured mean with its 95 % interval, and the published value where there is one."""

    label: str
    value: float
    low: float
    high: float
    published: float | None = None


def curves(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    x: str,
    published: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> None:
    """Draw ``value`` against ``x``, a line with its 95 % band for each ``descriptor`` of ``rows``.

    Args:
        axes: Where to draw.
        rows: Rows of a study, with the columns of :func:`niphash.studies.measured.measured`.
        x: Name of the column along the axis.
        published: (x, value) points by name, drawn grey and dashed.
    """
    for name in dict.fromkeys(row["descriptor"] for row in rows):
        own = [row for row in rows if row["descriptor"] == name]
        at = [row[x] for row in own]
        (line,) = axes.plot(at, [row["value"] for row in own], marker=".", label=name)
        low, high = ([row[end] for row in own] for end in ("low", "high"))
        axes.fill_between(at, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    for (name, points), marker in zip((published or {}).items(), MARKERS, strict=False):
        axes.plot(*zip(*points, strict=True), marker=marker, linestyle=":", label=name, **PUBLISHED)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def dots(axes: Axes, marks: Sequence[Dot], xlabel: str, published: str) -> None:
    """Draw one line a mark, from the top: the mean, its 95 % interval, the published value as a diamond.

    Args:
        axes: Where to draw.
        marks: What to draw.
        xlabel: Name of the quantity.
        published: Name of the published numbers, for the legend.
    """
    at = range(len(marks))
    errors = [[m.value - m.low for m in marks], [m.high - m.value for m in marks]]
    axes.errorbar([m.value for m in marks], at, xerr=errors, fmt="o", capsize=3, label="ours, 95 % interval")
    theirs = [(m.published, i) for i, m in enumerate(marks) if m.published is not None]
    if theirs:
        axes.plot(*zip(*theirs, strict=True), "D", label=published, **PUBLISHED)
        axes.legend(fontsize=8)
    axes.set_yticks(at, [m.label for m in marks], fontsize=9)
    axes.set_ylim(len(marks) - 0.5, -0.5)
    axes.set_xlabel(xlabel)
    axes.grid(axis="x", alpha=0.3)


def blank_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches."""
    return Figure(figsize=(width, height), layout="constrained")
