"""What each part of hashing=niphash brings, on the photos that its constants were chosen on; never UKBench.

python benchmarks/ablation.py --folder /tmp/hashing

Grocery: photos of eight products are fitted on and each photo of the eight others asks for its product, in
four draws. Sample: its own fit photos, queries and database. Each line is a method written as for
benchmarks/hashing.py and the number of random views a fit photo; each number the mean AP over the draws and
three hashers of seeds one after another. What was described is kept in ``--folder``.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hashing import DESCRIPTORS, fit, fitted_describer, search
from niphash.pipeline.assembly import build_data
from rich.console import Console
from rich.table import Table

from niphash.config import compose
from niphash.data.images import ImageSet
from niphash.data.task import Relevance, RetrievalTask
from niphash.descriptors.store.store import DescriptorStore, describe_once
from niphash.evaluation.evaluator import evaluate
from niphash.pipeline.fitting import with_views
from niphash.search.ranking import rank_descriptors

DRAWS, SEEDS, MOST_VIEWS = 4, 3, 4
VARIANTS = [
    ("pca_sign", 0),
    ("pca_sign+asymmetric", 0),
    ("itq", 0),
    ("itq+asymmetric", 0),
    ("niphash+hamming", 2),
    ("niphash", 2),
    ("niphash", 1),
    ("niphash", 4),
    ("niphash:neighbours=0", 2),
    ("niphash:shrinkage=1", 2),
    ("niphash:shrinkage=0.8", 2),
    ("niphash:shrinkage=0.3", 2),
]


class Split(NamedTuple):
    """Fit photos, queries and database of one draw.

    Attributes:
        fit: Descriptors of fit photos and their views, float32 [1 + MOST_VIEWS, N, D].
        queries: float32 [Q, D].
        database: float32 [M, D].
        truth: One a query.
    """

    fit: np.ndarray
    queries: np.ndarray
    database: np.ndarray
    truth: list[Relevance]


def grocery_splits(task: RetrievalTask, described: np.ndarray) -> Iterator[Split]:
    """Yield draws of half the products to fit on, from [1 + MOST_VIEWS, N, D]."""
    products = np.array([str(name).split("/")[0] for name in task.database.ids])
    for draw in range(DRAWS):
        names = np.random.default_rng(draw).permutation(np.unique(products))
        test = np.isin(products, names[: len(names) // 2])
        photos, shown = described[0, test], products[test]
        truth = [Relevance(np.flatnonzero(shown == name), [row]) for row, name in enumerate(shown)]
        yield Split(described[:, ~test], photos, photos, truth)


def splits(data: str, descriptor: str, options: argparse.Namespace) -> list[Split]:
    """Return the draws of ``grocery`` or ``sample`` as the descriptor ``descriptor`` sees them."""
    describer = fitted_describer(descriptor, options)
    store = DescriptorStore.of(describer, options.folder / "descriptors")

    def describe(images: ImageSet) -> np.ndarray:
        return np.asarray(describe_once(describer, images, store))

    def described_views(images: ImageSet) -> np.ndarray:
        return np.stack([describe(part) for part in with_views(images, MOST_VIEWS, options.seed)])

    chosen = ["data=folder", f"data.root={options.photos}"] if data == "grocery" else ["data=sample"]
    source = build_data(compose([*chosen, f"paths.data_dir={options.folder}"]).data)
    source.prepare()
    task = source.task()
    if data == "grocery":
        return list(grocery_splits(task, described_views(task.database)))
    fit_photos = described_views(source.fit_set())
    return [Split(fit_photos, describe(task.queries), describe(task.database), list(task.relevance))]


def mean_ap(method: str, views: int, bits: int, parts: list[Split], seed: int) -> float:
    """Return the mean over splits and seeds of the mean AP of ``method`` (``float`` for the descriptor)."""
    found = []
    for part in parts:
        if method == "float":
            ranking = rank_descriptors(part.queries, part.database, part.truth)
            found.append(evaluate(ranking, part.truth).means["mAP"])
            continue
        for number in range(seed, seed + SEEDS):
            hasher = fit(method, bits, part.fit[: 1 + views], np.arange(part.fit.shape[1]), number)
            ranking = search(method, hasher, part.queries, part.database, part.truth)
            found.append(evaluate(ranking, part.truth).means["mAP"])
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", default="../shared/data/grocery", help="folder of grocery photos")
    parser.add_argument("--weights", default="../shared/weights", help="folder of the two state dicts")
    parser.add_argument("--folder", type=Path, required=True, help="where descriptors are kept")
    descriptors = ["fisher", "squeezenet_mean", "mobilenet_mean"]
    parser.add_argument("--descriptors", nargs="+", default=descriptors, choices=DESCRIPTORS)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    columns = {
        f"{data} {descriptor}": splits(data, descriptor, options)
        for data in ("grocery", "sample")
        for descriptor in options.descriptors
    }
    table = Table("method", "views", *columns, title=f"mAP at {options.bits} bits, seed {options.seed}")
    for method, views in [("float", 0), *VARIANTS]:
        cells = (mean_ap(method, views, options.bits, parts, options.seed) for parts in columns.values())
        table.add_row(method, str(views or ""), *(f"{cell:.3f}" for cell in cells))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
