"""Fine-tuning an RBM stack with pairs and with triplets: five folds by object on the UKBench photos.

python benchmarks/fine_tuning.py [--bits 64] [--iterations 200] [--folds 5]

Each fold fits on four fifths of the objects without labels, on every photo and a random view of it (the two
are a matching pair), and tests on the other fifth, every photo a query. The learning rate of each method is
chosen in each fold on an inner split of its fit objects; tested objects choose nothing.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich import print as show
from rich.table import Table

from niphash.data.images import ImageSet
from niphash.data.task import Relevance
from niphash.data.views import RandomView
from niphash.descriptors.cnn import Backbone
from niphash.descriptors.describer import Describer
from niphash.descriptors.pooling import Mean
from niphash.descriptors.single import single
from niphash.evaluation.bootstrap import bootstrap_interval
from niphash.evaluation.functional import average_precision, tie_groups, ukb_score
from niphash.hashing.pairs import PairSampler
from niphash.hashing.siamese import RBMSiamese
from niphash.hashing.stack import RBMStack
from niphash.hashing.triplet import RBMTriplet
from niphash.search.ranking import rank_codes

SHARED = Path(__file__).resolve().parents[2] / "shared"
STACK = {"visible": "gaussian", "layers": [], "max_epochs": 100, "learning_rate": 0.01}
LONG = 1000  # iterations of the comparison of margins

#: Fine-tunes a copy of a stack on photos and their views [2 N, D] (photos first), at a rate, for some steps.
Method = Callable[[RBMStack, np.ndarray, float, int], RBMStack]


def start(kind: type[RBMStack], stack: RBMStack, **options: object) -> RBMStack:
    """Return a hasher of ``kind`` that holds a copy of the weights of ``stack``."""
    hasher = kind(stack.bits, stack.seed, **STACK, **options)
    hasher.load_state_dict({key: value.clone() for key, value in stack.state_dict().items()})
    return hasher


def siamese(loss: str) -> Method:
    def tune(stack: RBMStack, photos_and_views: np.ndarray, rate: float, iterations: int) -> RBMStack:
        count = len(photos_and_views) // 2
        pairs = np.stack([np.arange(count), np.arange(count) + count], axis=1)
        hasher = start(RBMSiamese, stack, loss=loss, fine_tuning_rate=rate, iterations=iterations)
        hasher.fine_tune(photos_and_views, PairSampler(pairs, 2 * count))
        return hasher

    return tune


def triplet(sampling: str, begin: str = "rbm") -> Method:
    def tune(stack: RBMStack, photos_and_views: np.ndarray, rate: float, iterations: int) -> RBMStack:
        options = {"sampling": sampling, "start": begin, "fine_tuning_rate": rate, "iterations": iterations}
        if begin == "random":
            hasher = RBMTriplet(stack.bits, stack.seed, **STACK, **options)
            hasher.fit(photos_and_views)
        else:
            hasher = start(RBMTriplet, stack, **options)
            hasher.fine_tune(photos_and_views)
        return hasher

    return tune


#: Each method, and the learning rates that it may choose from.
METHODS: dict[str, tuple[Method, tuple[float, ...]]] = {
    "dual margin": (siamese("dual"), (0.03, 0.3)),
    "triplet, threshold": (triplet("threshold"), (0.003, 0.03)),
    "triplet, uniform": (triplet("uniform"), (0.003, 0.03)),
    "triplet, threshold, random start": (triplet("threshold", "random"), (0.003, 0.03)),
}
COMPARISONS = (
    ("dual margin", "stack"),
    ("dual margin, long", "single margin, long"),
    ("triplet, threshold", "stack"),
    ("triplet, threshold", "triplet, uniform"),
    ("triplet, threshold", "triplet, threshold, random start"),
)


def scores(hasher: RBMStack, test: np.ndarray) -> np.ndarray:
    """Return 4 x recall@4 and AP of every photo of [N, D], four photos an object, float64 [N, 2]."""
    codes = hasher.encode(test)
    truth = [Relevance(np.arange(4 * (row // 4), 4 * (row // 4) + 4)) for row in range(len(test))]
    groups = tie_groups(rank_codes(codes, codes, truth), truth)
    return np.stack([ukb_score(groups), average_precision(groups)], axis=1)


def fit_stack(photos_and_views: np.ndarray, bits: int) -> RBMStack:
    stack = RBMStack(bits, **STACK)
    stack.fit(photos_and_views)
    return stack


def best_rates(photos: np.ndarray, views: np.ndarray, bits: int, iterations: int) -> dict[str, float]:
    """Return the rate of highest mAP of each method, fitted on four fifths of the objects, on the rest."""
    inner = np.arange(len(photos)) // 4 % 5 == 0
    both = np.concatenate([photos[~inner], views[~inner]])
    stack = fit_stack(both, bits)
    chosen = {}
    for name, (method, rates) in METHODS.items():
        found = [scores(method(stack, both, rate, iterations), photos[inner])[:, 1].mean() for rate in rates]
        chosen[name] = rates[int(np.argmax(found))]
    return chosen


def fold_scores(
    photos: np.ndarray, views: np.ndarray, test: np.ndarray, bits: int, iterations: int
) -> dict[str, np.ndarray]:
    """Return :func:`scores` of every method."""
    rates = best_rates(photos, views, bits, iterations)
    both = np.concatenate([photos, views])
    stack = fit_stack(both, bits)
    found = {"stack": scores(stack, test)}
    for name, (method, _) in METHODS.items():
        found[name] = scores(method(stack, both, rates[name], iterations), test)
    for loss in ("dual", "single"):
        tuned = siamese(loss)(stack, both, max(METHODS["dual margin"][1]), LONG)
        found[f"{loss} margin, long"] = scores(tuned, test)
    show("rates chosen on the fit objects:", rates)
    return found


def squeezenet() -> Describer:
    weights = str(SHARED / "weights" / "squeezenet1_0_imagenet.pt")
    return single(Backbone("squeezenet1_0", layer="features", weights=weights), Mean())


def report(found: dict[str, np.ndarray], bits: int) -> None:
    """Print the means of each method, and the differences that the papers speak of."""
    queries = len(found["stack"])
    table = Table("method", "4 x recall@4", "mAP", title=f"{bits} bits, {queries} queries, seed 0")
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
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--folds", type=int, default=5, help="how many of the five folds")
    options = parser.parse_args()
    torch.manual_seed(0)
    images = ImageSet.from_folder(SHARED / "data" / "ukbench")
    describer = squeezenet()
    photos = describer.describe(images)
    views = describer.describe(images.with_view(RandomView(seed=0, copy=0, rotation=20)))
    fold = np.arange(len(photos)) // 4 % 5
    parts = []
    for number in range(options.folds):
        fit, test = fold != number, fold == number
        parts.append(fold_scores(photos[fit], views[fit], photos[test], options.bits, options.iterations))
    report({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, options.bits)


if __name__ == "__main__":
    main()
