"""Speed, memory, precision of descriptors from networks: `benchmarks/describe.py [speed] [memory] [bf16]`.

Ratios are of interleaved runs in one process, the best of several rounds each. The peers: the bare network on
tensors that lie ready (same batch, same precision, both compiled or neither), and a plain loop that describes
one view at a time in float32, as cnnimageretrieval-pytorch's extraction does. Photos and weights of ../shared
are used where they are; else scikit-image's photos and random weights.
"""

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from memory import peak_mib
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F
from torchvision.transforms import functional as T

from niphash.data.images import ImageSet, as_image_set
from niphash.descriptors.network.cnn import Backbone
from niphash.descriptors.network.cnn_describer import CNNDescriber, autocast
from niphash.descriptors.network.input import MEAN_PIXEL
from niphash.descriptors.network.nip import NIP
from niphash.descriptors.network.pooling import Mean

SHARED = Path(__file__).resolve().parents[2] / "shared"
NETWORKS = {
    "squeezenet1_0": "squeezenet1_0_imagenet.pt",
    "mobilenet_v2": "mobilenet_v2_imagenet1001.pt",
}
ROTATIONS, SCALES = 12, 3


def backbone(name: str) -> Backbone:
    path = SHARED / "weights" / NETWORKS[name]
    return Backbone(name, "features", weights=str(path) if path.is_file() else "random")


def photos(count: int) -> ImageSet:
    if (SHARED / "data" / "ukbench").is_dir():
        images = ImageSet.from_folder(SHARED / "data" / "ukbench")
        return images.subset(range(0, len(images), max(1, len(images) // count))[:count])
    from skimage import data

    return as_image_set([data.astronaut(), data.coffee(), data.chelsea(), data.rocket()] * (count // 4))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare(describer: CNNDescriber) -> Callable[[int], None]:
    """Return what runs the network alone on so many tensors that lie ready, compiled where NIP's is."""
    side = int(describer.backbone.sizes[0])
    batch = torch.rand(describer.batch_size, 3, side, side).to(memory_format=torch.channels_last)
    run = describer.backbone.run
    if describer.compile:
        run = torch.compile(run, fullgraph=True, options={"freezing": True})

    def views(count: int) -> None:
        with torch.inference_mode(), autocast(describer.device, describer.dtype):
            for _ in range(count // describer.batch_size):
                run(batch)

    return views


def plain_loop(network: Backbone, images: ImageSet) -> np.ndarray:
    """One view at a time: Pillow, torchvision's transforms, float32, the moments at the end."""
    side = int(network.sizes[0])
    rows = []
    for index in range(len(images)):
        photo = images.image(index)
        photo = T.center_crop(photo, min(photo.size))
        turns = []
        for j in range(ROTATIONS):
            turned = photo.rotate(360 * j / ROTATIONS, Image.Resampling.BILINEAR, fillcolor=MEAN_PIXEL)
            crops = []
            for s in range(SCALES):
                crop = T.center_crop(turned, round(turned.width * 0.5 ** (s / (SCALES - 1))))
                view = T.normalize(T.to_tensor(T.resize(crop, [side, side])), network.mean, network.std)
                with torch.inference_mode():
                    crops.append(network.run(view[None])[0])
            turns.append(torch.stack(crops).mean(0).square().mean((1, 2)).sqrt())
        rows.append(F.normalize(torch.stack(turns).amax(0), dim=0).numpy())
    return np.stack(rows)


def speed(console: Console, count: int, rounds: int) -> None:
    table = Table(title=f"NIP, {ROTATIONS} rotations x {SCALES} crops, {count} photos: views a second")
    columns = ("network", "arithmetic", "NIP", "bare network", "plain loop", "NIP / bare", "NIP / loop")
    for column in columns:
        table.add_column(column, justify="left" if column in ("network", "arithmetic") else "right")
    images, few = photos(count), photos(4).subset([0, 1])
    for name, compile in itertools.product(NETWORKS, (False, True)):
        describer = CNNDescriber(backbone(name), NIP(rotations=ROTATIONS, scales=SCALES), compile=compile)
        views = count * describer.pooling.orbit_size // describer.batch_size * describer.batch_size
        network = bare(describer)
        describer.describe(few)  # the first pass prepares kernels
        network(describer.batch_size)
        works = [
            (partial(describer.describe, images), count * describer.pooling.orbit_size),
            (partial(network, views), views),
            (partial(plain_loop, backbone(name), few), len(few) * describer.pooling.orbit_size),
        ]
        took = [[seconds(work) / done for work, done in works] for _ in range(rounds)]
        times = np.min(took, 0)
        rates = [f"{1 / t:.0f}" for t in times]
        table.add_row(
            name,
            str(describer.dtype).removeprefix("torch.") + (", compiled" if compile else ""),
            *rates,
            f"{times[1] / times[0]:.2f}",
            f"{times[2] / times[0]:.1f}",
        )
    console.print(table)


def memory(console: Console) -> None:
    table = Table(title="Peak memory of a whole process that describes 4 photos, MiB")
    for column in ("orbit", "squeezenet1_0", "mobilenet_v2"):
        table.add_column(column, justify="right")
    for rotations, scales in ((1, 1), (12, 3), (36, 10), (72, 20)):
        peaks = [_peak(name, rotations, scales) for name in NETWORKS]
        table.add_row(f"{rotations} x {scales}", *(f"{peak:.0f}" for peak in peaks))
    console.print(table)


def _peak(name: str, rotations: int, scales: int) -> float:
    command = [sys.executable, __file__, "peak", name, str(rotations), str(scales)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak(name: str, rotations: int, scales: int) -> float:
    """Describe four photos and return the peak resident memory of this process, MiB."""
    CNNDescriber(backbone(name), NIP(rotations=rotations, scales=scales)).describe(photos(4))
    return peak_mib()


def mean_average_precision(descriptors: np.ndarray, labels: np.ndarray) -> float:
    """Return mAP, every photo a query against all others."""
    scores = descriptors @ descriptors.T
    np.fill_diagonal(scores, -np.inf)
    hits = labels[np.argsort(-scores, 1, kind="stable")[:, :-1]] == labels[:, None]
    precision = np.cumsum(hits, 1) / np.arange(1, hits.shape[1] + 1)
    return float(((precision * hits).sum(1) / hits.sum(1)).mean())


def bf16(console: Console) -> None:
    if not SHARED.is_dir():
        console.print("bf16: needs ../shared (real photos and weights)")
        return
    table = Table(title="mAP, every photo against all others: bf16 beside float32")
    for column in ("photos", "network", "pooling", "float32", "bf16", "difference"):
        table.add_column(column, justify="right" if column in ("float32", "bf16", "difference") else "left")
    ukbench = ImageSet.from_folder(SHARED / "data" / "ukbench")
    grocery = ImageSet.from_folder(SHARED / "data" / "grocery")
    products = np.array([image_id.split("/")[0] for image_id in grocery.ids])
    sets = {"ukbench": (ukbench, np.arange(len(ukbench)) // 4), "grocery": (grocery, products)}
    for label, (images, labels) in sets.items():
        for name in NETWORKS:
            for pooling in (Mean(), NIP(rotations=4, scales=1)):
                exact, fast = (
                    mean_average_precision(CNNDescriber(backbone(name), pooling, p).describe(images), labels)
                    for p in ("fp32", "bf16")
                )
                difference = f"{fast - exact:+.4f}"
                kind = type(pooling).__name__ + (" 4 x 1" if isinstance(pooling, NIP) else "")
                table.add_row(label, name, kind, f"{exact:.4f}", f"{fast:.4f}", difference)
    console.print(table)


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["peak"]:
        print(peak(arguments[1], int(arguments[2]), int(arguments[3])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="speed, memory, bf16; all of them when none is named")
    parser.add_argument("--photos", type=int, default=12, help="photos of the speed test")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the speed test")
    options = parser.parse_args(arguments)
    parts = {
        "speed": lambda console: speed(console, options.photos, options.rounds),
        "memory": memory,
        "bf16": bf16,
    }
    for part in options.parts or parts:
        parts[part](Console(width=110))


if __name__ == "__main__":
    main(sys.argv[1:])
