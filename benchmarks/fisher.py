"""Fisher vectors: the encoder beside scikit-image's, VLAD beside a loop, the whole path beside bare SIFT.

python benchmarks/fisher.py [--photos ../shared/data/ukbench] [--count 100]

Everything runs in one process on the same photos; of several rounds, taken in turns, the fastest counts.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from rich import print as show
from rich.table import Table
from skimage.feature import fisher_vector as skimage_fisher_vector
from sklearn.mixture import GaussianMixture

from niphash.data.images import ImageSet
from niphash.descriptors.local.fisher import Fisher
from niphash.descriptors.local.local_describer import LocalDescriber
from niphash.descriptors.local.sift import SiftDoG, grey
from niphash.descriptors.local.vlad import VLAD
from niphash.parallel import cpu_count

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "ukbench"


def rounds(works: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Return the fewest seconds of each, run in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeat):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}


def as_scikit_learn(encoder: Fisher, dtype: type) -> GaussianMixture:
    """Return the encoder's mixture as scikit-learn's, in the given precision."""
    gmm = GaussianMixture(encoder.gaussians, covariance_type="diag")
    weights, means, variances = (
        np.asarray(t, dtype) for t in (encoder.weights, encoder.means, encoder.variances)
    )
    gmm.weights_, gmm.means_, gmm.covariances_ = weights, means, variances
    gmm.precisions_cholesky_ = 1 / np.sqrt(variances)
    return gmm


def skimage_encode(x: np.ndarray, gmm: GaussianMixture) -> np.ndarray:
    """Return scikit-image's vector with our order, sign and length: it has the weights' derivatives too."""
    k, d = gmm.means_.shape
    v = skimage_fisher_vector(x, gmm, improved=True)[k:]
    v[k * d :] *= -1
    return v / np.linalg.norm(v)


def loop_vlad(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return VLAD as it is defined, one local descriptor after the other."""
    total = np.zeros_like(centroids)
    for point in x:
        k = np.square(point - centroids).sum(1).argmin()
        total[k] += point - centroids[k]
    powered = np.sign(total) * np.sqrt(np.abs(total))
    return (powered / np.linalg.norm(powered)).ravel()


def fisher_table(describer: LocalDescriber, x: torch.Tensor, lengths: list[int], repeat: int) -> bool:
    """Show encoder beside scikit-image; return whether they are equal to 1e-4."""
    encoder = describer.encoder
    arrays = [own.numpy() for own in x.split(lengths)]
    doubles = [own.astype(np.float64) for own in arrays]
    single, double = as_scikit_learn(encoder, np.float32), as_scikit_learn(encoder, np.float64)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]

    @torch.inference_mode()
    def encode(device: str) -> np.ndarray:
        return encoder.to(device)(x.to(device), lengths).cpu().numpy()

    works: dict[str, Callable[[], object]] = {
        "scikit-image, float64": lambda: [skimage_encode(own, double) for own in doubles],
        "scikit-image, float32": lambda: [skimage_encode(own, single) for own in arrays],
    }
    works |= {device: partial(encode, device) for device in devices}
    seconds = rounds(works, repeat)
    exact = np.stack([skimage_encode(own, double) for own in doubles])
    found = {
        "scikit-image, float64": exact,
        "scikit-image, float32": np.stack([skimage_encode(own, single) for own in arrays]),
        **{device: encode(device) for device in devices},
    }
    title = f"Fisher encoding, {len(lengths)} photos, {np.mean(lengths):.0f} local descriptors each"
    table = Table(
        "encoder", "ms a photo", "times float64", "times float32", "largest difference", title=title
    )
    for name, value in seconds.items():
        table.add_row(
            name if name.startswith("scikit") else f"niphash, {name}",
            f"{value / len(lengths) * 1e3:.3f}",
            f"{seconds['scikit-image, float64'] / value:.1f}",
            f"{seconds['scikit-image, float32'] / value:.1f}",
            f"{np.abs(found[name] - exact).max():.1e}",
        )
    show(table)
    encoder.to("cpu")
    return all(np.abs(found[device] - exact).max() <= 1e-4 for device in devices)


@torch.inference_mode()
def vlad_table(x: torch.Tensor, lengths: list[int]) -> bool:
    """Show VLAD beside a loop; return whether they are equal to 1e-4."""
    vlad = VLAD()
    vlad.fit(x.numpy(), lengths)
    centroids = vlad.centroids.numpy()
    doubles = [own.numpy().astype(np.float64) for own in x.split(lengths)]
    works: dict[str, Callable[[], object]] = {
        "loop": lambda: [loop_vlad(own, centroids) for own in doubles],
        "niphash": lambda: vlad(x, lengths),
    }
    seconds = rounds(works, 1)
    difference = np.abs(
        vlad(x, lengths).numpy() - np.stack([loop_vlad(own, centroids) for own in doubles])
    ).max()
    table = Table("VLAD", "ms a photo", "times the loop", title=f"largest difference {difference:.1e}")
    for name, value in seconds.items():
        table.add_row(name, f"{value / len(lengths) * 1e3:.3f}", f"{seconds['loop'] / value:.1f}")
    show(table)
    return difference <= 1e-4


def path_table(describer: LocalDescriber, photos: ImageSet, repeat: int) -> None:
    """Show the whole path beside SIFT alone, which has its pictures ready in memory and its own threads."""
    cv2.setNumThreads(-1)  # OpenCV's default
    greys = [grey(photos.image(row), 640, enlarge=False) for row in range(len(photos))]
    sift = cv2.SIFT.create(nfeatures=4000, contrastThreshold=0, edgeThreshold=10)
    works: dict[str, Callable[[], object]] = {
        "SIFT alone (OpenCV)": lambda: [sift.detectAndCompute(image, None) for image in greys],
        "read, SIFT, PCA, Fisher": lambda: describer.describe(photos),
    }
    seconds = rounds(works, repeat)
    table = Table("path", "photos a second", "of SIFT alone", title=f"{cpu_count()} cores")
    for name, value in seconds.items():
        table.add_row(name, f"{len(photos) / value:.1f}", f"{seconds['SIFT alone (OpenCV)'] / value:.2f}")
    show(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=SHARED)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    photos = ImageSet.from_folder(options.photos)
    photos = photos.subset(range(min(options.count, len(photos))))
    describer = LocalDescriber(SiftDoG(), Fisher(), device="cpu")
    describer.fit(photos)
    found = [SiftDoG().extract(photos.image(row)).descriptors for row in range(len(photos))]
    with torch.inference_mode():
        x = describer.pca(torch.from_numpy(np.concatenate(found)))
    lengths = [len(own) for own in found]
    equal = [fisher_table(describer, x, lengths, options.repeat), vlad_table(x, lengths)]
    path_table(describer, photos, max(1, options.repeat // 2))
    sys.exit(0 if all(equal) else 1)


if __name__ == "__main__":
    main()
