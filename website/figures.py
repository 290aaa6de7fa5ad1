"""Draw the figures of ``docs/methods`` into ``docs/pictures/methods``.

python website/figures.py [name ...]

Every hashing method is fitted on 1200 of the handwritten digits of scikit-learn, 8 x 8 pixels taken as a
descriptor of 64 components, with 64 bits and seed 0; its figure shows the distances of the other 597, of
pairs of one digit and of two. All of it takes a minute, and anybody sees what a digit is. The figures of
poolings turn and shift one photograph before a SqueezeNet of random weights.
"""

import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from niphash.config import build, compose
from niphash.hashing import Hasher
from niphash.training.fit_data import FitData

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "methods"
#: Of Okabe and Ito, which colour-blind readers tell apart; grey is legible on white and on black.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "niphash",
    "font.size": 10,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
FITTED = 1200
#: The choices of ``conf/hashing`` that are drawn.
HASHING = (
    *("lsh", "pca_sign", "pca_hash", "itq", "spectral", "bpbc", "pq", "bihalf", "greedyhash", "niphash"),
    *("rbm_stack", "rbm_siamese", "rbm_triplet"),
)


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return L2-normalised float32 [1797, 64] and which digit each is, in a random order."""
    from sklearn.datasets import load_digits

    pixels, which = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    rows = pixels[order] / np.linalg.norm(pixels[order], axis=1, keepdims=True)
    return rows.astype(np.float32), which[order]


def fitted(*overrides: str) -> Hasher:
    """Return the hasher of ``overrides``, fitted on the first digits; pairs are two of one digit."""
    rows, which = digits()
    hasher: Hasher = build(compose([*overrides, "bits=64"]).hashing)
    generator = np.random.default_rng(0)
    groups = [np.flatnonzero(which[:FITTED] == digit) for digit in range(10)]
    pairs = np.concatenate([generator.permutation(g)[: len(g) // 2 * 2].reshape(-1, 2) for g in groups])
    hasher.fit(FitData(rows[:FITTED], pairs if hasher.needs_pairs else None))
    return hasher


def histograms(matching: np.ndarray, others: np.ndarray, label: str) -> Figure:
    """Return a picture of both kinds of distances, each with area 1."""
    figure = Figure(figsize=(5.6, 2.6), layout="constrained")
    axes = figure.add_subplot()
    both = np.concatenate([matching, others])
    whole = bool(np.all(both == both.round()))
    low, high = both.min(), both.max()
    edges = np.arange(low - 0.5, high + 1.5) if whole and high - low < 80 else np.linspace(low, high, 50)
    for values, colour, name, dashes in (
        (matching, BLUE, "one digit", "-"),
        (others, ORANGE, "two digits", "--"),
    ):
        share = np.histogram(values, edges, density=True)[0]
        axes.stairs(share, edges, color=colour, label=name, linestyle=dashes, linewidth=1.6)
    axes.set(xlabel=label, ylabel="share", yticks=[], ylim=(0, None))
    axes.legend()
    return figure


def hashing_figure(name: str) -> Figure:
    """Return the distances of codes of the hashing method ``name``, for digits that it has not seen."""
    rows, which = (part[FITTED:] for part in digits())
    hasher = fitted(f"hashing={name}")
    codes = hasher.encode(rows)
    if "hamming" in hasher.distances:
        distances = np.bitwise_count(codes[:, None] ^ codes[None]).sum(axis=2).astype(np.int64)
        label = "bits that differ, of 64"
    else:
        distances = hasher.asymmetric_distances(rows, codes)
        label = "squared distance to the quantised digit"
    same = which[:, None] == which
    pair = ~np.eye(len(rows), dtype=bool)
    return histograms(distances[same & pair], distances[~same], label)


def activations() -> Figure:
    """Return the activations of the units of an RBM for unseen digits, with and without the regulariser."""
    rows, _ = digits()
    figure = Figure(figsize=(5.6, 2.6), layout="constrained")
    axes = figure.add_subplot()
    for name, colour, dashes in (("none", ORANGE, "--"), ("rbmh", BLUE, "-")):
        hasher = fitted("hashing=rbm", f"hashing.regularizer={name}", "hashing.recenter=off")
        on = 1 / (1 + np.exp(-np.asarray(hasher.project(rows[FITTED:]), np.float64)))
        share = np.histogram(on, 25, (0, 1), density=True)[0]
        label = "without regulariser" if name == "none" else "RBMH, batch level"
        axes.stairs(share, np.linspace(0, 1, 26), color=colour, linestyle=dashes, label=label, linewidth=1.6)
    axes.set(xlabel="activation of a hidden unit for a digit", ylabel="share", yticks=[], ylim=(0, None))
    axes.legend()
    return figure


def photograph(side: int = 260) -> np.ndarray:
    """Return the middle of a photograph, uint8 [side, side, 3]."""
    from skimage import data

    photo = data.astronaut()
    top, left = (photo.shape[0] - side) // 2 - 100, (photo.shape[1] - side) // 2
    return np.ascontiguousarray(photo[top : top + side, left : left + side])


def pooled_distances(pooling: list[str], photos: list[np.ndarray]) -> np.ndarray:
    """Return the cosine distance of the first of ``photos`` to each, float64 [N]."""
    cfg = compose(["backbone=squeezenet", "backbone.weights=random", "backbone.size=129", *pooling])
    rows = build(cfg.descriptor).describe(build_images(photos)).astype(np.float64)
    return 1 - rows @ rows[0]


def build_images(photos: list[np.ndarray]):
    """Return the photos as the describers take them."""
    from niphash.data.images import as_image_set

    return as_image_set(photos)


def disc(photo: np.ndarray, degrees: float, shift: int = 0) -> np.ndarray:
    """Return the central disc of a photo, turned and shifted to the right, on the mean pixel of ImageNet."""
    import cv2

    side = len(photo)
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1)
    matrix[0, 2] += shift
    turned = cv2.warpAffine(photo, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)
    away = np.arange(side) - (side - 1) / 2
    turned[away**2 + away[:, None] ** 2 > (side / 2) ** 2] = (124, 116, 104)
    return turned


def curves(
    poolings: Mapping[str, list[str]], change: Callable[[np.ndarray, float], np.ndarray], steps, label: str
) -> Figure:
    """Return the distance of a changed photo, over that of another photo, against how much it is changed."""
    from skimage import data

    figure = Figure(figsize=(5.6, 2.8), layout="constrained")
    axes = figure.add_subplot()
    photo, other = photograph(), np.ascontiguousarray(data.coffee()[60:320, 150:410])
    photos = [*(change(photo, step) for step in steps), change(other, steps[0])]
    for (name, overrides), style in zip(
        poolings.items(),
        ((BLUE, "-"), (ORANGE, "--"), (GREEN, ":"), (GREY, "-."), (BLUE, ":"), (ORANGE, "-.")),
        strict=False,
    ):
        distances = pooled_distances(overrides, photos)
        axes.plot(
            steps,
            distances[:-1] / distances[-1],
            color=style[0],
            linestyle=style[1],
            label=name,
            linewidth=1.6,
        )
    axes.set(xlabel=label, ylabel="distance / that of\nanother photo", ylim=(0, None))
    axes.legend(fontsize=9, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def nip_figure() -> Figure:
    """Return how far a photo moves when it is turned, for average pooling and for NIP."""
    poolings = {
        "mean": ["pooling=mean"],
        "NIP, 4 rotations": ["pooling=nip", "pooling.rotations=4", "pooling.scales=1"],
        "NIP, 12 rotations": ["pooling=nip", "pooling.rotations=12", "pooling.scales=1"],
    }
    return curves(poolings, disc, list(range(0, 181, 10)), "the photo turned by, degrees")


def pooling_figure() -> Figure:
    """Return how far a photo moves when it is shifted, for each pooling of a map."""
    names = ("flatten", "mean", "max", "gem", "rmac", "crow")
    return curves(
        {name: [f"pooling={name}"] for name in names},
        lambda photo, shift: disc(photo, 0, int(shift)),
        list(range(0, 81, 10)),
        "the photo shifted by, pixels of 260",
    )


def main(names: list[str]) -> None:
    """Draw the figures called ``names``, or all."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    others = {"activations": activations, "nip": nip_figure, "pooling": pooling_figure}
    for name in names or [*HASHING, *others]:
        with matplotlib.rc_context(STYLE):
            figure = others[name]() if name in others else hashing_figure(name)
            figure.savefig(
                PICTURES / f"{name}.svg", transparent=True, metadata={"Date": None, "Creator": "niphash"}
            )
        print(name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
