"""Fine-tuning an RBM stack with pairs and with triplets: five folds by object on the UKBench photos.

python benchmarks/fine_tuning.py --folder /tmp/hashing [--descriptor fisher] [--pairs objects]

Each fold fits on four fifths of the objects, on every photo and a random view of it, and every photo of the
other fifth asks for its object among all 500. Pairs match a photo with its view (no label), or with the other
photos of its object. The learning rate of each method is chosen in each fold on an inner split of its fit
objects, that of the long runs for the dual margin; tested objects choose nothing. What was described, and the
scores of each fold, are kept in ``--folder``, so a run that was stopped goes on.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from hashing import DESCRIPTORS, FOLDS, describe, folds
from rich import print as show
from rich.table import Table

from niphash.data.sets.ukbench import VIEWS as SHOTS
from niphash.data.sets.ukbench import UKBenchData
from niphash.data.task import Relevance
from niphash.evaluation.bootstrap import bootstrap_interval
from niphash.evaluation.functional import average_precision, tie_groups, ukb_score
from niphash.hashing.rbm.stack import RBMSiamese, RBMStack, RBMTriplet
from niphash.search.ranking import rank_codes
from niphash.training.fit_data import FitData

STACK = {"layers": [], "max_epochs": 100, "learning_rate": 0.01}
LONG = 2000  # iterations of the comparison of margins
LONG_RATES = (0.03, 0.1, 0.3)  # that the dual margin chooses from for it; the single margin takes the same


class FitSet(NamedTuple):
    """What a fold is fitted on.

    Attributes:
        rows: Photos and their views, float32 [2 N, D], photos first.
        pairs: Rows that match, int64 [P, 2].
    """

    rows: np.ndarray
    pairs: np.ndarray


#: Fine-tunes a copy of a stack on a fit set, at a rate, for some steps.
Method = Callable[[RBMStack, FitSet, float, int], RBMStack]


def start(kind: type[RBMStack], stack: RBMStack, **options: object) -> RBMStack:
    """Return a hasher of ``kind`` that holds a copy of the weights of ``stack``."""
    hasher = kind(stack.bits, stack.seed, visible=stack.visible, **STACK, **options)
    hasher.load_state_dict({key: value.clone() for key, value in stack.state_dict().items()})
    return hasher


def siamese(loss: str) -> Method:
    def tune(stack: RBMStack, fit: FitSet, rate: float, iterations: int) -> RBMStack:
        hasher = start(RBMSiamese, stack, loss=loss, fine_tuning_rate=rate, iterations=iterations)
        hasher.fine_tune(FitData(fit.rows, fit.pairs))
        return hasher

    return tune


def triplet(sampling: str, begin: str = "rbm") -> Method:
    def tune(stack: RBMStack, fit: FitSet, rate: float, iterations: int) -> RBMStack:
        options = {"sampling": sampling, "start": begin, "fine_tuning_rate": rate, "iterations": iterations}
        if begin == "random":
            hasher = RBMTriplet(stack.bits, stack.seed, visible=stack.visible, **STACK, **options)
            hasher.fit(FitData(fit.rows))
        else:
            hasher = start(RBMTriplet, stack, **options)
            hasher.fine_tune(FitData(fit.rows))
        return hasher

    return tune


#: Each method, and the learning rates that it may choose from.
METHODS: dict[str, tuple[Method, tuple[float, ...]]] = {
    "dual margin": (siamese("dual"), (0.003, 0.03)),
    "triplet, threshold": (triplet("threshold"), (0.003, 0.03)),
    "triplet, uniform": (triplet("uniform"), (0.003, 0.03)),
    "triplet, threshold, random start": (triplet("threshold", "random"), (0.003, 0.03)),
}
COMPARISONS = (
    ("dual margin", "stack"),
    ("dual margin, long", "stack"),
    ("dual margin, long", "single margin, long"),
    ("triplet, threshold", "stack"),
    ("triplet, threshold", "triplet, uniform"),
    ("triplet, threshold", "triplet, threshold, random start"),
)


def scores(hasher: RBMStack, photos: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return 4 x recall@4 and AP, float64 [Q, 2], of the photos ``test`` (bool [N]) among all [N, D]."""
    codes, numbers = hasher.encode(photos), np.flatnonzero(test)
    truth = [Relevance(SHOTS * (number // SHOTS) + np.arange(SHOTS)) for number in numbers]
    groups = tie_groups(rank_codes(codes[numbers], codes, truth), truth)
    return np.stack([ukb_score(groups), average_precision(groups)], axis=1)


def fit_set(photos: np.ndarray, views: np.ndarray, chosen: np.ndarray, kind: str) -> FitSet:
    """Return the photos ``chosen`` (bool [N]) and their views, which match by ``kind``."""
    count = int(chosen.sum())
    own = np.stack([np.arange(count), np.arange(count) + count], axis=1)
    pairs = own if kind == "views" else np.concatenate([own, same_object(np.flatnonzero(chosen) // SHOTS)])
    return FitSet(np.concatenate([photos[chosen], views[chosen]]), pairs)


def same_object(objects: np.ndarray) -> np.ndarray:
    """Return int64 [P, 2], all pairs of photos of one object."""
    return np.argwhere(np.triu(objects[:, None] == objects, 1))


def fit_stack(fit: FitSet, options: argparse.Namespace) -> RBMStack:
    stack = RBMStack(options.bits, options.seed, visible=options.visible, **STACK)
    stack.fit(FitData(fit.rows))
    return stack


def best_rates(
    photos: np.ndarray, views: np.ndarray, chosen: np.ndarray, options: argparse.Namespace
) -> dict[str, float]:
    """Return the rate of highest mAP of each method, fitted on four fifths of the objects, on the rest."""
    inner = np.zeros(len(chosen), bool)
    inner[np.flatnonzero(chosen)] = np.arange(chosen.sum()) // SHOTS % FOLDS == 0
    fit = fit_set(photos, views, chosen & ~inner, options.pairs)
    stack = fit_stack(fit, options)
    rates = {}
    trials = {name: (*found, options.iterations) for name, found in METHODS.items()}
    trials["margins, long"] = (siamese("dual"), LONG_RATES, LONG)
    for name, (method, choices, iterations) in trials.items():
        tuned = (method(stack, fit, rate, iterations) for rate in choices)
        found = [scores(hasher, photos[chosen], inner[chosen])[:, 1].mean() for hasher in tuned]
        rates[name] = choices[int(np.argmax(found))]
    return rates


def fold_scores(
    photos: np.ndarray, views: np.ndarray, test: np.ndarray, options: argparse.Namespace
) -> dict[str, np.ndarray]:
    """Return :func:`scores` of every method."""
    rates = best_rates(photos, views, ~test, options)
    fit = fit_set(photos, views, ~test, options.pairs)
    stack = fit_stack(fit, options)
    found = {"stack": scores(stack, photos, test)}
    for name, (method, _) in METHODS.items():
        found[name] = scores(method(stack, fit, rates[name], options.iterations), photos, test)
    for loss in ("dual", "single"):
        tuned = siamese(loss)(stack, fit, rates["margins, long"], LONG)
        found[f"{loss} margin, long"] = scores(tuned, photos, test)
    show("rates chosen on the fit objects:", rates)
    return found


def remembered_scores(
    photos: np.ndarray, views: np.ndarray, fold: int, options: argparse.Namespace
) -> dict[str, np.ndarray]:
    """Return :func:`fold_scores`, out of a file when the fold was measured before."""
    choices = (
        options.descriptor,
        options.visible,
        options.pairs,
        options.bits,
        options.iterations,
        options.seed,
    )
    path = options.folder / "fine_tuning" / f"{'_'.join(map(str, choices))}_{fold}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **fold_scores(photos, views, folds(len(photos), options.seed)[fold], options))
    with np.load(path) as file:
        return dict(file)


def report(found: dict[str, np.ndarray], title: str) -> None:
    """Print the means of each method, and the differences that the papers speak of."""
    table = Table("method", "4 x recall@4", "mAP", title=title)
    for name, values in found.items():
        table.add_row(name, *(f"{mean:.4f}" for mean in values.mean(axis=0)))
    show(table)
    table = Table("difference", "4 x recall@4", "mAP", title="paired, with bootstrap 95 % intervals")
    for first, second in COMPARISONS:
        difference = found[first] - found[second]
        ends = zip(difference.mean(axis=0), bootstrap_interval(difference, seed=0), strict=True)
        cells = (f"{mean:+.4f} ({low:+.4f} to {high:+.4f})" for mean, (low, high) in ends)
        table.add_row(f"{first} - {second}", *cells)
    show(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", default="../shared/data/ukbench", help="folder of UKBench photos")
    parser.add_argument("--weights", default="../shared/weights", help="folder of the two state dicts")
    parser.add_argument("--folder", type=Path, required=True, help="where descriptors are kept")
    parser.add_argument("--descriptor", default="squeezenet_mean", choices=DESCRIPTORS)
    parser.add_argument("--pairs", default="views", choices=["views", "objects"], help="what matches")
    parser.add_argument("--visible", default="gaussian", choices=["gaussian", "binary"], help="visible units")
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--folds", type=int, default=FOLDS, help="how many of the five folds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.views = 1
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    photos, views = describe(options.descriptor, UKBenchData(root=options.photos).task().database, options)
    parts = [remembered_scores(photos, views, fold, options) for fold in range(options.folds)]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    said = f"{options.visible} units, pairs of {options.pairs}, {options.bits} bits"
    report(found, f"{options.descriptor}, {said}, {len(found['stack'])} queries, seed {options.seed}")


if __name__ == "__main__":
    main()
