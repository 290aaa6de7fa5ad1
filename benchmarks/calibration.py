"""How true the probabilities of a search are: a reliability diagram of one model on several data sets.

python benchmarks/calibration.py --model <run>/model --fit <photos it was fitted on> [--limit 1500] \\
    --data ukbench=<folder> --data 'smvs=<folder> data.category=dvd_covers' \\
    --data folder=<folder> --out calibration.svg

The calibration is learned as at the end of a training, from new views of the fit photos, and then measured on
the first ten results of every query: with the prior of a search (one photo of the database is expected to
match), and with the share of matching photos that the data set really has. Prints the expected calibration
error of both and writes the diagram.
"""

import argparse
import shlex
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from niphash.config import compose
from niphash.data.task import RetrievalTask
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.store.store import DescriptorStore, StoredDescriptors
from niphash.evaluation.calibration import Calibration, Reliability, reliability, usual_prior
from niphash.model import Model, load
from niphash.pipeline.calibrating import calibrate
from niphash.pipeline.fitting import choose_fit_set, fit_rows, with_views
from niphash.pipeline.measuring import Comparison, Stopwatch, describe_with, measure
from niphash.pipeline.run import Run, assemble
from niphash.search.comparison import choose_distance
from niphash.search.ranking import Ranking

FIRST = 10
#: Of Okabe and Ito, with dashes and markers that need no colour.
STYLES = (("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", ":", "^"))
GREY = "#767676"


def calibrated(model: Model, run: Run) -> None:
    """Enter into the model's record what its distances mean, as a training does."""
    fit_set = choose_fit_set(run.fit, run.targets[0].data, run.data_set, run.seed)
    rows = fit_rows(fit_set, run.fit, model.hasher.needs_pairs, run.seed)
    describe = describe_with(model.describer, DescriptorStore.of(model.describer, run.descriptors_dir), None)
    parts = [
        describe(images, DescribeReport()) for images in with_views(fit_set.images, rows.copies, run.seed)
    ]
    described = StoredDescriptors(parts[0].store, np.concatenate([part.positions for part in parts]))
    model.record["calibration"] = calibrate(
        model.hasher, describe, fit_set, rows, described, run.calibration, run.seed
    )


def true_prior(task: RetrievalTask) -> float:
    """Return the share of matching photos among all that a query is compared with."""
    relevant = sum(len(truth.relevant) for truth in task.relevance)
    compared = sum(len(task.database) - len(truth.junk) for truth in task.relevance)
    return relevant / compared


def diagram(known: Calibration, ranking: Ranking, task: RetrievalTask, prior: float) -> Reliability:
    """Return the reliability of the first results with another prior."""
    ids, distances = ranking.ids[:, :FIRST], ranking.distances[:, :FIRST]
    same = np.stack([np.isin(row, truth.relevant) for row, truth in zip(ids, task.relevance, strict=True)])
    junk = np.stack([np.isin(row, truth.junk) for row, truth in zip(ids, task.relevance, strict=True)])
    counted = (ids >= 0) & ~junk
    return reliability(known.with_prior(prior).probability(distances[counted]), same[counted])


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--fit", required=True, help="folder of the photos that it was fitted on")
    parser.add_argument("--limit", type=int, default=None, help="as fit.limit was")
    parser.add_argument("--data", action="append", required=True, metavar="'NAME=FOLDER [OPTION ...]'")
    parser.add_argument("--out", type=Path, default=Path("calibration.svg"))
    parser.add_argument("overrides", nargs="*", help="further options of a training")
    options = parser.parse_args()
    words = [f"fit.root={options.fit}", *([f"fit.limit={options.limit}"] if options.limit else [])]
    model = load(options.model)
    calibrated(
        model, assemble(compose(["data=folder", f"data.root={options.fit}", *words, *options.overrides]), ".")
    )
    distance = choose_distance(model.hasher, "auto")
    known = model.calibration(distance)
    if known is None:
        raise SystemExit("too few fit photos to learn a calibration from")
    record = model.record["calibration"]
    print(
        f"learned from {record['views']} views of {record['photos']} photos, held out: {record['held_out']}"
    )
    style = {"svg.fonttype": "none", "svg.hashsalt": "niphash", "font.size": 10, "text.color": GREY}
    style |= dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), GREY)
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(8, 3.8), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for number, pair in enumerate(options.data):
            first, *own = shlex.split(pair)
            name, _, root = first.partition("=")
            run = assemble(compose([f"data={name}", f"data.root={root}", *own, *options.overrides]), ".")
            target = run.targets[0]
            target.data.prepare()
            describe = describe_with(
                model.describer, DescriptorStore.of(model.describer, run.descriptors_dir), None
            )
            found = measure(model, target.task(), describe, Stopwatch(), Comparison.of(run, model))
            size = len(found.task.database)
            priors = {
                "one match expected": usual_prior(size),
                "as many as there are": true_prior(found.task),
            }
            for panel, (title, prior) in zip(panels, priors.items(), strict=True):
                result = diagram(known, found.rankings["code"], found.task, prior)
                counted = result.counts > 0
                colour, dashes, marker = STYLES[number % len(STYLES)]
                label = f"{Path(root).name}, error {result.expected_error:.3f}"
                panel.plot(
                    result.confidence[counted],
                    result.frequency[counted],
                    color=colour,
                    ls=dashes,
                    marker=marker,
                    label=label,
                )
                panel.set(title=title, xlabel="probability that was said", xlim=(0, 1), ylim=(0, 1))
                print(
                    f"{name} {root}: prior {prior:.4f} ({title}), {int(result.counts.sum())} results, "
                    f"expected calibration error {result.expected_error:.3f}"
                )
        for panel in panels:
            panel.plot([0, 1], [0, 1], color=GREY, linewidth=1)
            panel.legend(frameon=False)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("share that shows the same")
        figure.savefig(options.out, transparent=True, metadata={"Date": None, "Creator": "niphash"})


if __name__ == "__main__":
    main()
