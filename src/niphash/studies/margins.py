"""Two margins against one in Siamese fine-tuning: curves, every layer before and after (DeepHash, 3.3)."""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from niphash.errors import InputError
from niphash.evaluation.evaluator import Report
from niphash.hashing.pairs import squared_distances
from niphash.hashing.rbm.stack import RBMStack
from niphash.pipeline.run import Run
from niphash.studies.curves import blank_figure, published_elsewhere
from niphash.studies.fine_tuning_curves import (
    Course,
    Variant,
    check_course_options,
    course_rows,
    course_sentence,
    draw_curves,
    elsewhere_of,
    follow_all,
)
from niphash.studies.hashed import HashingBench, chosen_metric, difference_columns, hashing_bench
from niphash.studies.matching_pairs import draw_pairs
from niphash.studies.measured import check_names, measured
from niphash.studies.result import StudyResult
from niphash.studies.true_pairs import with_true_pairs

LOSSES = {
    "dual": Variant("dual margin", ["hashing.loss=dual"], ["deephash+", "deephash+_peak"]),
    "single": Variant("single margin", ["hashing.loss=single"], ["deephash+_single_margin"]),
    "nonmatching": Variant("non-matching only", ["hashing.loss=nonmatching"]),
}
BINS = 40
#: At most so many matching pairs, and as many others, are drawn for the histograms.
PAIRS = 2000


class LayerPairs(NamedTuple):
    """Squared distances of the activations of one layer, over pairs of tested photos.

    Attributes:
        units: Of the layer.
        matching: float [P], of pairs that match.
        other: float [P], of pairs that do not.
    """

    units: int
    matching: np.ndarray
    other: np.ndarray

    @property
    def auc(self) -> float:
        """Area under the ROC curve: how often a matching pair is nearer than another, in [0, 1]."""
        distances = np.concatenate([self.matching, self.other])
        return float(roc_auc_score(np.arange(len(distances)) >= len(self.matching), distances))


def margins(
    run: Run,
    every: int,
    metric: str | None,
    queries: int | None,
    published: Sequence[str],
    losses: Sequence[str] = ("dual", "single"),
    pairs: str = "fit",
    depth: int | None = None,
    recalls: Sequence[int] = (10, 100),
) -> StudyResult:
    """Compare losses of Siamese fine-tuning along the iterations, and every layer before and after.

    Args:
        run: With ``hashing=rbm_siamese``.
        every: Iterations between two points of the curve, a multiple of 100.
        metric: ``None`` for the metric of record of the data set.
        queries: At most so many queries; ``None`` for all.
        published: Descriptors whose published numbers are drawn.
        losses: Of ``hashing.loss``; the first is what the others are compared with.
        pairs: What matches: ``"fit"`` (``fit.pairs``, or views of the fit photos) or ``"labels"`` (photos of
            half the objects of the tested data set; the other half is measured).
        depth: Number of layers, see :func:`niphash.studies.fine_tuning_curves.halved_layers`; ``None``, or
            where ``hashing.layers`` is given: those.
        recalls: Depths R of recall in the table by layer.

    Raises:
        InputError: an option cannot be used, or there are no pairs.
    """
    check_names("study.losses", losses, LOSSES)
    check_names("study.pairs", [pairs], ["fit", "labels"])
    variants = [LOSSES[loss] for loss in losses]
    check_course_options(run, variants, every, published, depth)
    if pairs == "labels" and run.fit.pairs is not None:
        raise InputError(
            "study.pairs=labels: pairs come from the tested data; leave out fit.pairs, or set study.pairs=fit"
        )
    bench = hashing_bench(run, views=pairs == "fit", queries=queries)
    if pairs == "labels":
        bench = with_true_pairs(bench, run.seed)
    courses = follow_all(bench, variants, every, depth)
    first = courses[variants[0].label]
    metric = chosen_metric(metric, bench, first.reports[0])
    states = {"before": first.before, **{name: course.after for name, course in courses.items()}}
    tables = {name: layer_reports(bench, hasher) for name, hasher in states.items()}
    distances = pair_distances(bench, states, run.seed)
    rows = [
        {"part": "curve", "layer": None, "units": None, **row, "auc": None}
        for row in course_rows(courses, metric, run.seed)
    ]
    rows += _layer_rows(courses, tables, distances, recalls, run.seed)
    figure = _draw(bench, variants, courses, metric, published, distances)
    sentence = course_sentence(bench, courses, metric, _auc_remark(distances))
    return StudyResult("margins", rows, figure, sentence)


def layer_reports(bench: HashingBench, hasher: RBMStack) -> list[Report]:
    """Measure the codes of each layer of a stack, bottom first; each is thresholded as the top one is."""
    state = hasher.state_dict()
    sizes = [len(state[f"layers.{layer}.hidden_bias"]) for layer in range(len(hasher.stack.layers))]  # type: ignore[union-attr]
    reports = []
    for depth, bits in enumerate(sizes[:-1], 1):
        if bits % 8:
            raise InputError(
                f"hashing.layers={sizes}: codes of every layer are measured; give multiples of 8"
            )
        one = copy(hasher)
        one.bits = bits
        kept = {
            key: value
            for key, value in state.items()
            if not key.startswith("layers.") or int(key.split(".")[1]) < depth
        }
        one.load_state_dict({**kept, "threshold": torch.zeros(bits)})
        if one.recenter_on != "off":
            one.recenter(bench.fit_rows(one))
        reports.append(bench.report(one))
    return [*reports, bench.report(hasher)]


@torch.inference_mode()
def pair_distances(
    bench: HashingBench, states: Mapping[str, RBMStack], seed: int
) -> dict[str, list[LayerPairs]]:
    """Return the distances of pairs of tested photos in each layer, for each state."""
    drawn = draw_pairs(bench.bench.task, PAIRS, np.random.default_rng(seed))
    query, matching, other = (np.array(rows) for rows in drawn)
    readable = bench.readable[matching] & bench.readable[other] & bench.readable_queries[query]
    query, matching, other = query[readable], matching[readable], other[readable]
    photos = [torch.from_numpy(bench.queries[query])]
    photos += [torch.from_numpy(bench.database[rows]) for rows in (matching, other)]
    found = {}
    for name, hasher in states.items():
        assert hasher.stack is not None
        layers = zip(*(hasher.stack(part).activations for part in photos), strict=True)
        found[name] = [
            LayerPairs(q.shape[1], squared_distances(q, m).numpy(), squared_distances(q, o).numpy())
            for q, m, o in layers
        ]
    return found


def _layer_rows(
    courses: Mapping[str, Course],
    tables: Mapping[str, Sequence[Report]],
    distances: Mapping[str, Sequence[LayerPairs]],
    recalls: Sequence[int],
    seed: int,
) -> list[dict[str, Any]]:
    """Return recall@R and the ROC AUC of every layer, before fine-tuning and after each variant."""
    rows = []
    for name, reports in tables.items():
        iterations = 0 if name == "before" else max(courses[name].reports)
        for layer, report in enumerate(reports):
            pairs = distances[name][layer]
            for metric in (f"recall@{depth}" for depth in recalls):
                if metric not in report.means:  # of a database with fewer photos
                    continue
                base = tables["before"][layer]
                rows.append(
                    {
                        "part": "layers",
                        "layer": layer + 1,
                        "units": pairs.units,
                        "variant": name,
                        "iterations": iterations,
                        **measured(report, metric),
                        **difference_columns(f"layer {layer + 1} before", base, report, metric, seed),
                        "auc": pairs.auc,
                    }
                )
    return rows


def _auc_remark(distances: Mapping[str, Sequence[LayerPairs]]) -> str:
    aucs = ", ".join(f"{layers[-1].auc:.3f} {name}" for name, layers in distances.items())
    return f"; area under the ROC curve of pairs in the top layer {aucs}"


def _draw(
    bench: HashingBench,
    variants: Sequence[Variant],
    courses: Mapping[str, Course],
    metric: str,
    published: Sequence[str],
    distances: Mapping[str, Sequence[LayerPairs]],
) -> Figure:
    states, depth = len(distances), len(distances["before"])
    figure = blank_figure(14, 5 + 2.4 * states)
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[5, 2.4 * states])[:, 0]
    elsewhere = elsewhere_of(bench, variants, metric, published)
    if elsewhere:
        axes, right = top.subplots(1, 2, width_ratios=[1.4, 1])
        published_elsewhere(right, elsewhere, metric)
    else:
        axes = top.subplots()
    draw_curves(axes, bench, variants, courses, metric, published)
    grid = bottom.subplots(states, depth, squeeze=False, sharex="col")
    for line, (name, layers) in zip(grid, distances.items(), strict=True):
        for layer, (axes, pairs) in enumerate(zip(line, layers, strict=True), 1):
            _histograms(axes, pairs, f"{name}: layer {layer}, {pairs.units} units")
    return figure


def _histograms(axes: Axes, pairs: LayerPairs, title: str) -> None:
    reach = (0, float(max(pairs.matching.max(), pairs.other.max())) or 1)
    for values, hue, name in ((pairs.matching, "tab:green", "matching"), (pairs.other, "tab:red", "other")):
        axes.hist(
            values,
            bins=BINS,
            range=reach,
            weights=np.full(len(values), 100 / len(values)),
            histtype="stepfilled",
            alpha=0.4,
            color=hue,
            label=f"{name}, {len(values)} pairs",
        )
    axes.set_title(f"{title}, ROC AUC {pairs.auc:.3f}", fontsize=9)
    axes.set_xlabel("squared L2 distance of activations", fontsize=8)
    axes.set_ylabel("pairs [%]", fontsize=8)
    axes.legend(fontsize=7)
