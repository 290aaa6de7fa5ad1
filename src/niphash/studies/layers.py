"""Which layer of the network, and how is the photo laid on its input? (arXiv 1508.02496)"""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from niphash.errors import InputError
from niphash.pipeline.run import Run
from niphash.studies.curves import MARKERS, PUBLISHED, blank_figure
from niphash.studies.measured import label, measured, metric_of_record, prepare
from niphash.studies.published_values import find_published
from niphash.studies.result import StudyResult


def layers(
    run: Run,
    layers: Sequence[str],
    inputs: Sequence[str] = ("crop", "squash", "pad"),
    queries: int | None = None,
    metric: str | None = None,
) -> StudyResult:
    """Measure the descriptors of several layers, each with several modes of input.

    Args:
        run: With a network as ``backbone``; its ``pooling`` is taken.
        layers: Names of layers, as of ``backbone.layer``.
        inputs: Modes of input, as of ``backbone.input``.
        queries: So many queries at most, drawn at random.
        metric: What is compared; by default the data set's metric of record.

    Raises:
        InputError: no such layer or mode, or the data set is not there.
    """
    if not layers or not inputs:
        raise InputError("study.layers and study.inputs: name at least one of each")
    bench = prepare(run, queries)
    network = str(run.option("backbone.name"))
    metric = metric or metric_of_record(bench.task)
    rows = []
    for layer in layers:
        for mode in inputs:
            describe = bench.describer([f"backbone.layer={layer}", f"backbone.input={mode}"])
            report = bench.report(describe(bench.task.queries), describe(bench.task.database))
            dim = describe.describer.dim
            rows.append(
                {
                    "layer": layer,
                    "input": mode,
                    "dim": dim,
                    **measured(report, metric),
                    "published": _published(layer, network, bench.published_as, metric),
                }
            )
    return StudyResult("layers", rows, _draw(rows, metric, bench.name), _sentence(rows, bench.name))


def _published(layer: str, network: str, data: str, metric: str) -> float | None:
    """Return the published value of that layer of that network (centre crop), or ``None``."""
    found = find_published(dataset=data, metric=metric, descriptor=f"{network}_{layer}", bits=None)
    return found[0].value if found else None


def _draw(rows: list[dict[str, Any]], metric: str, data: str) -> Figure:
    figure = blank_figure(9, 5.5)
    axes = figure.add_subplot()
    names = list(dict.fromkeys(row["layer"] for row in rows))
    modes = list(dict.fromkeys(row["input"] for row in rows))
    for i, (mode, marker) in enumerate(zip(modes, MARKERS, strict=False)):
        own = [row for row in rows if row["input"] == mode]
        at = [names.index(row["layer"]) + 0.12 * (i - (len(modes) - 1) / 2) for row in own]
        errors = [[r["value"] - r["low"] for r in own], [r["high"] - r["value"] for r in own]]
        axes.errorbar(
            at, [r["value"] for r in own], yerr=errors, fmt=marker, capsize=3, label=f"input {mode}"
        )
    theirs = {row["layer"]: row["published"] for row in rows if row["published"] is not None}
    if theirs:
        at = [names.index(layer) for layer in theirs]
        axes.plot(at, list(theirs.values()), "D", label="published", **PUBLISHED)
    dims = {row["layer"]: row["dim"] for row in rows}
    axes.set_xticks(range(len(names)), [f"{name}\n{dims[name]}-d" for name in names])
    axes.set(xlabel="layer and dimensions of its descriptor", ylabel=f"{label(metric)}, 95 % intervals")
    axes.set_title(f"{data}: {rows[0]['queries']} queries", fontsize=11)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _sentence(rows: list[dict[str, Any]], data: str) -> str:
    best, worst = (choose(rows, key=lambda row: row["value"]) for choose in (max, min))

    def told(row: dict[str, Any]) -> str:
        interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
        return f"{row['layer']} with input {row['input']} {row['value']:.3f} {interval}"

    return (
        f"{label(rows[0]['metric']).capitalize()} on {data}, {rows[0]['queries']} queries: "
        f"best {told(best)}, worst {told(worst)}, of {len(rows)} combinations."
    )
