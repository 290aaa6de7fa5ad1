"""Hashing methods on UKBench photos, five folds by object: 4 x recall@4 of codes beside the float descriptor.

python benchmarks/hashing.py --photos ../shared/data/ukbench --weights ../shared/weights --folder /tmp/hashing

Each fold's 25 objects are tested (every photo a query), and every method is fitted without labels on the
photos of the other folds; a method that learns from views also sees ``--views`` random views of those. The
database is the fold's 100 photos, or with ``--database all`` all 500, the other folds' as distractors. Fisher
vectors are fitted on the sample's fit photos. A method is a choice of conf/hashing; ``itq+views`` gives it
the views as further photos, ``niphash+labels`` the true objects of the fit photos in place of views (what the
method could reach if it guessed every match), ``niphash:neighbours=0`` sets one of its options;
``niphash+hamming`` and ``itq+asymmetric`` compare the codes by that distance. With ``--draws 3`` each query's
score is the mean of three hashers of seeds one after another, which differ in what is random. Ratios are to
the method ``--against``, with paired bootstrap 95 % intervals over queries. What was described, measured is
kept in ``--folder``, so a run that was stopped goes on; a method that has changed needs its files in
``<folder>/scores`` deleted.
"""

import argparse
import csv
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from niphash.config import build, compose
from niphash.data.images import ImageSet
from niphash.data.sets.ukbench import VIEWS as SHOTS
from niphash.data.sets.ukbench import UKBenchData
from niphash.data.task import Relevance
from niphash.descriptors.describer import Describer
from niphash.descriptors.store.store import DescriptorStore, describe_once
from niphash.evaluation.evaluator import evaluate
from niphash.hashing.hasher import Hasher
from niphash.pipeline.assembly import build_data
from niphash.pipeline.fitting import view_pairs, with_views
from niphash.search.comparison import code_distances
from niphash.search.ranking import Ranking, rank, rank_descriptors
from niphash.training.fit_data import FitData

NIP = ["pooling=nip", "pooling.rotations=12", "pooling.scales=3"]
SQUEEZENET = ["backbone=squeezenet", "backbone.weights={weights}/squeezenet1_0_imagenet.pt"]
MOBILENET = ["backbone=mobilenet_v2", "backbone.weights={weights}/mobilenet_v2_imagenet1001.pt"]
DESCRIPTORS = {
    "fisher": [],
    "squeezenet_mean": [*SQUEEZENET, "pooling=mean"],
    "mobilenet_mean": [*MOBILENET, "pooling=mean"],
    "squeezenet_nip": [*SQUEEZENET, *NIP],
    "mobilenet_nip": [*MOBILENET, *NIP],
}
METHODS = ["lsh", "pca_sign", "spectral", "bpbc", "rbm_stack", "itq", "itq+views", "niphash"]
SUFFIXES = ("views", "labels", "hamming", "asymmetric")
COLUMNS = ["descriptor", "bits", "method", "float", "score", "of_float", "against", "ratio", "low", "high"]
FOLDS, RESAMPLES = 5, 2000


def describe(name: str, photos: ImageSet, options: argparse.Namespace) -> np.ndarray:
    """Return descriptors float32 [1 + views, N, D]: the photos, then their views, copy after copy."""
    describer = fitted_describer(name, options)
    store = DescriptorStore.of(describer, options.folder / "descriptors")
    sets = with_views(photos, options.views, options.seed)
    return np.stack([describe_once(describer, images, store) for images in sets])


def fitted_describer(name: str, options: argparse.Namespace) -> Describer:
    """Return the describer, fitted on the sample's fit photos where it has something to fit."""
    from safetensors.torch import load_file, save_file

    overrides = [line.format(weights=options.weights) for line in DESCRIPTORS[name]]
    cfg = compose([*overrides, f"paths.data_dir={options.folder}", f"seed={options.seed}"])
    describer = build(cfg.descriptor)
    fitted = options.folder / f"{name}_{options.seed}.safetensors"
    if fitted.exists():
        describer.load_state_dict(load_file(fitted))
    elif name == "fisher":
        describer.fit(build_data(cfg.data).fit_set())
        save_file(describer.state_dict(), fitted)
    return describer


def folds(count: int, seed: int) -> list[np.ndarray]:
    """Return bool [N] for each fold, the photos that it tests: whole objects, drawn at random."""
    objects = np.random.default_rng(seed).permutation(count // SHOTS)
    return [np.isin(np.arange(count) // SHOTS, part) for part in np.array_split(objects, FOLDS)]


def object_pairs(objects: np.ndarray) -> np.ndarray:
    """Return int64 [P, 2], each photo and the next one of its object."""
    return np.stack([np.arange(len(objects) - 1), np.arange(1, len(objects))], 1)[objects[:-1] == objects[1:]]


def score(ranking: Ranking, truth: list[Relevance]) -> np.ndarray:
    """Return 4 x recall@4 of each query, expected over the order inside ties."""
    return evaluate(ranking, truth).per_query["ukb"]


def measure(method: str, bits: int, descriptors: np.ndarray, options: argparse.Namespace) -> np.ndarray:
    """Return 4 x recall@4 of every photo as a query of its fold, float64 [N], in order of the photos."""
    photos = descriptors[0]
    scores = np.empty(len(photos))
    for test in folds(len(photos), options.seed):
        numbers = np.flatnonzero(test)
        database = numbers if options.database == "fold" else np.arange(len(photos))
        truth = [Relevance(np.flatnonzero(database // SHOTS == number // SHOTS)) for number in numbers]
        if method == "float":
            ranking = rank_descriptors(photos[numbers], photos[database], truth)
            scores[test] = score(ranking, truth)
            continue
        drawn = []
        for draw in range(options.draws):
            objects = np.flatnonzero(~test) // SHOTS
            hasher = fit(method, bits, descriptors[:, ~test], objects, options.seed + draw)
            drawn.append(score(search(method, hasher, photos[numbers], photos[database], truth), truth))
        scores[test] = np.mean(drawn, axis=0)
    return scores


def search(
    method: str, hasher: Hasher, queries: np.ndarray, database: np.ndarray, truth: list[Relevance]
) -> Ranking:
    """Return the ranking by the codes of ``hasher`` and the distance that ``method`` names."""
    distance = "hamming" if "+hamming" in method else "asymmetric" if "+asymmetric" in method else "auto"
    return rank(code_distances(hasher, queries, hasher.encode(database), distance=distance), truth)


def fit(method: str, bits: int, descriptors: np.ndarray, objects: np.ndarray, seed: int) -> Hasher:
    """Return the hasher of ``method``, fitted.

    Args:
        method: A choice of conf/hashing with its settings and suffixes.
        bits: Length of a code.
        descriptors: float32 [1 + views, N, D], fit photos and their views.
        objects: int64 [N], what each photo shows; only ``+labels`` looks at it.
        seed: Of the hasher.
    """
    choice, *suffixes = method.split("+")
    name, *settings = choice.split(":")
    if unknown := set(suffixes) - set(SUFFIXES):
        raise SystemExit(f"{method}: there is no +{unknown.pop()}; there are {', '.join(SUFFIXES)}")
    overrides = [f"hashing.{setting}" for setting in settings]
    hasher = build(compose([f"hashing={name}", f"bits={bits}", f"seed={seed}", *overrides]).hashing)
    labelled = "labels" in suffixes
    sees_views = (hasher.needs_pairs and not labelled) or "views" in suffixes
    parts = descriptors if sees_views else descriptors[:1]
    pairs = object_pairs(objects) if labelled else view_pairs(len(objects), len(parts) - 1)
    hasher.fit(FitData(np.concatenate(parts), pairs if hasher.needs_pairs else None))
    return hasher


def remembered(
    name: str, method: str, bits: int, described: Callable[[str], np.ndarray], options: argparse.Namespace
) -> np.ndarray:
    """Return what :func:`measure` gives, out of a file when it was measured before."""
    file = f"{name}_{method}_{bits}_{options.views}_{options.seed}_{options.draws}_{options.database}.npy"
    path = options.folder / "scores" / file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, measure(method, bits, described(name), options))
    return np.load(path)


def ratio_interval(first: np.ndarray, second: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of mean(first) / mean(second) [Q], paired by query."""
    drawn = np.random.default_rng(seed).integers(len(first), size=(RESAMPLES, len(first)))
    low, high = np.quantile(first[drawn].mean(axis=1) / second[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", default="../shared/data/ukbench", help="folder of UKBench photos")
    parser.add_argument("--weights", default="../shared/weights", help="folder of the two state dicts")
    parser.add_argument("--folder", type=Path, required=True, help="where results are kept")
    parser.add_argument("--descriptors", nargs="+", default=list(DESCRIPTORS), choices=DESCRIPTORS)
    parser.add_argument("--methods", nargs="+", default=METHODS, help="see above")
    parser.add_argument("--bits", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--views", type=int, default=2, help="random views of each fit photo")
    parser.add_argument("--database", default="fold", choices=["fold", "all"], help="what is searched")
    parser.add_argument("--against", default="itq", help="the method that ratios are to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=1, help="hashers a fold, of seeds from --seed on")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    photos = UKBenchData(root=options.photos).task().database
    described = lru_cache(1)(lambda name: describe(name, photos, options))
    table = Table(
        "descriptor", "bits", "method", "4 x recall@4", "of float", f"of {options.against}", "95 % interval"
    )
    lines = []
    for name in options.descriptors:
        exact = remembered(name, "float", 0, described, options)
        table.add_row(name, "", "float", f"{exact.mean():.3f}", "", "", "", end_section=True)
        for bits in options.bits:
            peer = remembered(name, options.against, bits, described, options)
            for method in options.methods:
                codes = remembered(name, method, bits, described, options)
                low, high = ratio_interval(codes, peer, options.seed)
                mean, of_float, ratio = codes.mean(), codes.mean() / exact.mean(), codes.mean() / peer.mean()
                lines.append(
                    [name, bits, method, exact.mean(), mean, of_float, options.against, ratio, low, high]
                )
                row = (f"{mean:.3f}", f"{of_float:.3f}", f"{ratio:.3f}", f"{low:.3f} - {high:.3f}")
                table.add_row(name, str(bits), method, *row, end_section=method == options.methods[-1])
    said = f"views={options.views}, seed={options.seed}, draws={options.draws}, database={options.database}"
    table.title = f"{len(photos)} UKBench photos, {FOLDS} folds by object, {said}"
    Console(width=110).print(table)
    with (options.folder / "hashing.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(lines)


if __name__ == "__main__":
    main()
