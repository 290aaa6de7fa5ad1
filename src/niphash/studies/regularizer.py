"""What the regulariser does to one RBM layer: retrieval against bits, and histograms of its activations."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import SubFigure

from niphash.errors import InputError
from niphash.evaluation.evaluator import Report
from niphash.hashing.hasher import Hasher
from niphash.hashing.rbm.stack import RBMStack
from niphash.pipeline.run import Run
from niphash.studies.curves import (
    blank_figure,
    color,
    curve,
    draw_against_bits,
    finish,
    paper_names,
    published_curves,
)
from niphash.studies.hashed import (
    HashingBench,
    check_published,
    check_rbm,
    check_regularizers,
    chosen_metric,
    code_lengths,
    difference_columns,
    hashing_bench,
)
from niphash.studies.measured import label, measured, paired
from niphash.studies.result import StudyResult

NAMES = {"none": "no regulariser", "sparsity": "sparsity, p = 0.5", "rbmh": "RBMH"}
BINS = 25
#: At most so many photos in the pictures of the units.
PHOTOS = 300


def regularizer(
    run: Run,
    bits: Sequence[int],
    regularizers: Sequence[str],
    metric: str | None,
    queries: int | None,
    published: Sequence[str],
) -> StudyResult:
    """Fit ``conf/hashing`` with each regulariser at each code length (DeepHash, sections 3.1 and 4.1).

    Args:
        run: Its ``hashing`` is an RBM.
        bits: Code lengths; those that the descriptor is too short for are left out.
        regularizers: The first is what the others are compared with.
        metric: ``None`` for the metric of record of the data set.
        queries: At most so many queries; ``None`` for all.
        published: Descriptors whose published numbers are drawn.

    Raises:
        InputError: an option cannot be used, or no code length can.
    """
    lengths = code_lengths(bits)
    check_rbm(run)
    check_regularizers(regularizers)
    check_published(published)
    bench = hashing_bench(run, views=False, queries=queries)
    found = {name: fitted for name in regularizers if (fitted := _by_bits(bench, name, lengths))}
    if not found:
        raise InputError(f"study.bits={list(bits)}: the descriptor is too short for any of them")
    reports = {name: {b: report for b, (_, report) in at.items()} for name, at in found.items()}
    base = reports[regularizers[0]]
    metric = chosen_metric(metric, bench, next(iter(base.values())))
    rows = [
        {
            "regularizer": name,
            "bits": b,
            **measured(report, metric),
            **difference_columns(f"{regularizers[0]}, {b} bits", base[b], report, metric, run.seed),
            **activation_columns(top_activations(hasher, bench)),
        }
        for name, at in found.items()
        for b, (hasher, report) in at.items()
    ]
    figure = blank_figure(14, 9)
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[5, 4])[:, 0]
    left, right = top.subplots(1, 2)
    draw_against_bits(
        left,
        [curve(NAMES.get(name, name), at, metric) for name, at in reports.items()],
        [published_curves(bench.published_as, metric, paper_names(name), published) for name in reports],
    )
    finish(left, metric, f"{bench.title}: one RBM layer, by regulariser", outside=True)
    shown = min(base, key=lambda b: abs(b - run.bits))
    activations = {name: top_activations(at[shown][0], bench) for name, at in found.items()}
    for number, (name, of_units) in enumerate(activations.items()):
        values = of_units.ravel()
        weights = np.full(len(values), 100 / len(values))
        right.hist(
            values,
            bins=BINS,
            range=(0, 1),
            weights=weights,
            histtype="step",
            lw=1.5,
            color=color(number),
            label=NAMES.get(name, name),
        )
    right.set_xlabel("activation P(h = 1 | x) of a unit for a database photo")
    right.set_ylabel(f"share of activations [%], bins of {1 / BINS}")
    right.set_title(f"activations of the layer of {shown} bits", fontsize=10)
    right.legend(fontsize=8)
    _draw_units(bottom, activations)
    return StudyResult("regularizer", rows, figure, _sentence(bench, reports, shown, metric))


def activation_columns(activations: np.ndarray) -> dict[str, float]:
    """Return what a CSV says of activations [N, H]: their mean and saturation, and how far units differ."""
    of_units, bits = activations.mean(0), activations > 0.5
    return {
        "mean_activation": float(activations.mean()),
        "saturated": float(((activations < 0.05) | (activations > 0.95)).mean()),
        "least_unit": float(of_units.min()),
        "greatest_unit": float(of_units.max()),
        "units_never_change": float((bits.all(0) | ~bits.any(0)).mean()),
    }


def _draw_units(figure: SubFigure, activations: Mapping[str, np.ndarray]) -> None:
    """Draw the activation of every unit (one line each, by its mean) for photos (one column each)."""
    panels = figure.subplots(1, len(activations), squeeze=False)[0]
    for axes, (name, values) in zip(panels, activations.items(), strict=True):
        order = np.argsort(values.mean(0), kind="stable")
        shown = values[np.linspace(0, len(values) - 1, min(len(values), PHOTOS)).astype(int)][:, order]
        axes.imshow(shown.T, vmin=0, vmax=1, cmap="gray", aspect="auto", interpolation="nearest")
        told = activation_columns(values)
        axes.set_title(
            f"{NAMES.get(name, name)}: units' means {told['least_unit']:.2f} to "
            f"{told['greatest_unit']:.2f}, {told['saturated']:.0%} saturated",
            fontsize=9,
        )
        axes.set_xlabel("database photo (activation 0 black, 1 white)")
        axes.set_ylabel("unit, by its mean activation")


def _by_bits(bench: HashingBench, name: str, bits: Sequence[int]) -> dict[int, tuple[Hasher, Report]]:
    fits = {b: bench.try_fit([f"bits={b}", f"hashing.regularizer={name}"]) for b in bits}
    return {b: (hasher, bench.report(hasher)) for b, hasher in fits.items() if hasher is not None}


@torch.inference_mode()
def top_activations(hasher: Hasher, bench: HashingBench) -> np.ndarray:
    """Return the activations of the top layer of an RBM for the database photos, float32 [N, bits]."""
    assert isinstance(hasher, RBMStack)
    assert hasher.stack is not None
    rows = bench.database[bench.readable]
    return hasher.stack(torch.from_numpy(rows)).activations[-1].numpy()


def _sentence(bench: HashingBench, reports: dict[str, dict[int, Report]], bits: int, metric: str) -> str:
    first, *others = reports
    base = reports[first][bits]
    parts = [
        f"{NAMES.get(name, name)} {reports[name][bits].means[metric]:.3f}, a difference of "
        f"{paired(base, reports[name][bits], metric, bench.run.seed)}"
        for name in others
    ]
    return (
        f"{bench.name}, one RBM layer of {bits} bits, {label(metric)}: {NAMES.get(first, first)} "
        f"{base.means[metric]:.3f}; {'; '.join(parts)} ({bench.footnote})."
    )
