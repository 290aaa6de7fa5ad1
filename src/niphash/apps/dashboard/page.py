"""The page: a table of runs, their values with intervals, their curves, their contact sheets."""

import io
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from niphash.apps.dashboard.curves import BINS, Curves, chart, read_curves, share_map, stroke
from niphash.evaluation.compare import run_names
from niphash.pipeline.run_folders import Measured, RunFolder
from niphash.plain import printable

#: Beyond these a page would be too large to open: charts of one curve, histograms, and pictures.
MOST_CHARTS, MOST_MAPS, MOST_PICTURES = 60, 60, 120
#: Of a picture in the page: longer side in pixels; and what is read of a file, in pixels and bytes.
SIDE, LARGEST_PIXELS, LARGEST_BYTES = 1400, 60_000_000, 32 * 2**20
_HERE = Path(__file__).parent


class ShownRun(NamedTuple):
    """A run on the page: its number gives its colour."""

    number: int
    name: str
    run: RunFolder
    curves: Curves


def dashboard_page(runs: Sequence[RunFolder], metric: str) -> str:
    """Return the page as HTML; it needs no other file and no network, and whatever runs hold in it is text.

    Args:
        runs: In the order in which they are numbered.
        metric: That the runs are sorted by: of the code, or of the descriptor where there is none.

    Raises:
        InputError: the ``metrics.json`` of a run is damaged.
    """
    names = run_names([run.folder for run in runs]) if len(runs) > 1 else (runs[0].folder.resolve().name,)
    shown = [
        ShownRun(i, name, run, read_curves(run.folder))
        for i, (name, run) in enumerate(zip(names, runs, strict=True))
    ]
    script, style = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    digest = b64encode(sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    failed = sum(run.state == "failed" for run in runs)
    title = f"{len(runs)} runs" + (f", {failed} failed" if failed else "")
    parts = [_table(shown, metric), _curves(shown), _histograms(shown), _sheets(shown)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>niphash: {title}</title><style>{style}</style></head>"
        f'<body><h1>{title}</h1><p class="quiet">Sorted by {_safe(metric)} of the code, or of the descriptor '
        "where there is no code; in brackets 95 % intervals over clusters of queries.</p>"
        '<label>Show runs whose name holds<input type="search" autocomplete="off"></label>\n'
        + "\n".join(part for part in parts if part)
        + f"\n<script>{script}</script></body></html>\n"
    )


def _table(shown: Sequence[ShownRun], metric: str) -> str:
    heads = ["run", metric, "descriptor", "state", "data", "bits", "distance"]
    heads += ["fit photos", "fit, s", "describe, s"]
    rows = [(one.value(metric), _row(run, one, metric)) for run in shown for one in run.run.measured] + [
        (None, _bare_row(run, len(heads))) for run in shown if not run.run.measured
    ]
    rows.sort(key=lambda row: -1.0 if row[0] is None else row[0], reverse=True)
    head = "".join(f'<th scope="col"><button type="button">{_safe(text)}</button></th>' for text in heads)
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Table of runs"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(row for _, row in rows)}</tbody></table></div>"
    )


def _row(run: ShownRun, one: Measured, metric: str) -> str:
    entry = one.entry
    fit_set, seconds = entry.get("fit_set"), entry.get("seconds")
    photos = fit_set.get("images") if isinstance(fit_set, dict) else None
    seconds = seconds if isinstance(seconds, dict) else {}
    return _tr(
        run,
        [
            _run_cell(run),
            _value_cell(one.value(metric), one.interval(metric)),
            _value_cell(one.value(metric, "descriptor"), (None, None)),
            _cell(run.run.state),
            _cell(one.data),
            _cell(entry.get("bits")),
            _cell(entry.get("distance")),
            _cell(photos),
            _cell(seconds.get("fit")),
            _cell(seconds.get("describe")),
        ],
    )


def _bare_row(run: ShownRun, columns: int) -> str:
    told = run.run.failure or "; ".join(run.run.answers) or ""
    mark = ' class="failed"' if run.run.state == "failed" else ""
    cells = [_run_cell(run), "<td></td><td></td>", f"<td{mark}>{_safe(run.run.state)}</td>"]
    return _tr(run, [*cells, f'<td colspan="{columns - 4}">{_safe(told)}</td>'])


def _tr(run: ShownRun, cells: Sequence[str]) -> str:
    return f'<tr data-run="{_safe(run.name)}">{"".join(cells)}</tr>'


def _run_cell(run: ShownRun) -> str:
    key = (
        f'<svg class="key" viewBox="0 0 26 10" aria-hidden="true">'
        f'<line x1="0" y1="5" x2="26" y2="5" {stroke(run.number)}/></svg>'
    )
    return f'<td class="run" data-value="{_safe(run.name)}">{key}{_safe(run.name)}</td>'


def _cell(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="number" data-value="{value}">{value:g}</td>'
    return f"<td>{'' if value is None else _safe(str(value))}</td>"


def _value_cell(value: float | None, interval: tuple[float | None, float | None]) -> str:
    if value is None:
        return "<td></td>"
    low, high = interval
    ends = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f'<td class="number" data-value="{value}">{value:.4f}{ends}</td>'


def _curves(shown: Sequence[ShownRun]) -> str:
    names = list(dict.fromkeys(name for run in shown for name in run.curves.lines))
    panels = [
        chart(name, [(r.number, r.name, r.curves.lines[name]) for r in shown if name in r.curves.lines])
        for name in names[:MOST_CHARTS]
    ]
    return _section(
        "Training curves", panels, len(names), "the line before each name in the table is its run's"
    )


def _histograms(shown: Sequence[ShownRun]) -> str:
    maps = [(run, name) for run in shown for name, columns in run.curves.shares.items() if columns]
    panels = [share_map(name, run.name, run.curves.shares[name]) for run, name in maps[:MOST_MAPS]]
    told = f"shares of values in {BINS} bins of (0, 1)"
    return _section("Histograms along the training", panels, len(maps), told)


def _section(title: str, panels: Sequence[str], found: int, told: str) -> str:
    if not panels:
        return ""
    more = "" if found <= len(panels) else f"; the first {len(panels)} of {found} are shown"
    head = f'<h2>{title}</h2><p class="quiet">{told}{more}</p>'
    return f'<section>{head}<div class="grid">{"".join(panels)}</div></section>'


def _sheets(shown: Sequence[ShownRun]) -> str:
    parts, left = [], MOST_PICTURES
    for run in shown:
        pictures = [*sorted(run.run.folder.glob("ranking*.png")), *_study_pictures(run.run)][:left]
        left -= len(pictures)
        facts = {"folder": str(run.run.folder), **run.run.overrides}
        facts |= {f"answer {i + 1}": told for i, told in enumerate(run.run.answers)}
        facts |= {"failure": run.run.failure} if run.run.failure else {}
        told = "".join(f"<dt>{_safe(key)}</dt><dd>{_safe(str(value))}</dd>" for key, value in facts.items())
        parts.append(
            f'<details data-run="{_safe(run.name)}"><summary>{_safe(run.name)}</summary><dl>{told}</dl>'
            f"{''.join(map(_picture, pictures))}</details>"
        )
    return f"<section><h2>Runs, one by one: command, best and worst queries</h2>{''.join(parts)}</section>"


def _study_pictures(run: RunFolder) -> list[Path]:
    return [path for path in sorted(run.folder.glob("*.png")) if path.with_suffix(".csv").is_file()]


def _picture(path: Path) -> str:
    """Return a picture of a run inlined; one that cannot be read is said to be so."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError("too large")
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > LARGEST_PIXELS:
                raise ValueError("too large")
            image.draft("RGB", (SIDE, SIDE))
            small = image.convert("RGB")
        small.thumbnail((SIDE, 4 * SIDE))
        file = io.BytesIO()
        small.save(file, "JPEG", quality=72, optimize=True)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f'<p class="quiet">{_safe(path.name)}: cannot be shown ({_safe(str(error))})</p>'
    data = b64encode(file.getvalue()).decode()
    size = f'width="{small.width}" height="{small.height}"'
    return f'<img {size} loading="lazy" alt="{_safe(path.name)}" src="data:image/jpeg;base64,{data}">'


def _safe(text: str) -> str:
    return escape(printable(text), quote=True)
