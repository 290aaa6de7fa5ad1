"""niphash serve under load: 200 clients that search with photos, beside describing the same photos alone.

python benchmarks/serve.py [--clients 200] [--seconds 60] [--codes 1000000] [--model runs/photos/model]

A collection of ``--codes`` random codes and some real photos is made in a temporary folder and served by a
process of its own. Reported: answers by status, photos a second and their ratio to describing alone (measured
before and after, in this process, on as many threads), the latency of a search by code, and the server's
memory over the run. Without ``--model`` the codes are of a Fisher vector and random hyperplanes, fitted on
those photos.
"""

import argparse
import asyncio
import io
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
from rich import print as show

BATCH = 20_000


def crops(count: int, side: int = 320) -> list[bytes]:
    """Return ``count`` JPEG files cut from the photographs of scikit-image."""
    import skimage
    from PIL import Image

    folder = Path(skimage.__file__).parent / "data"
    names = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")
    photos = [Image.open(folder / name).convert("RGB") for name in names]
    rng = np.random.default_rng(0)
    files = []
    for number in range(count):
        photo = photos[number % len(photos)]
        size = min(side, *photo.size)
        left, top = (int(rng.integers(0, edge - size + 1)) for edge in photo.size)
        buffer = io.BytesIO()
        photo.crop((left, top, left + size, top + size)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def fitted_model(photos: list[Path]):
    """Return a Fisher vector of 1024 dimensions and 64 random hyperplanes, fitted on ``photos``."""
    from omegaconf import OmegaConf

    from niphash.config import build, compose
    from niphash.data.images import as_image_set
    from niphash.model import Model
    from niphash.training.fit_data import FitData

    cfg = compose(["pooling.gaussians=16", "pooling.local_dim=32", "hashing=lsh"])
    parts = {
        "descriptor": OmegaConf.to_container(cfg.descriptor, resolve=True),
        "hashing": OmegaConf.to_container(cfg.hashing, resolve=True),
    }
    describer, hasher = build(parts["descriptor"]), build(parts["hashing"])
    images = as_image_set(photos)
    describer.fit(images)
    hasher.fit(FitData(describer.describe(images)))
    return Model(describer, hasher, parts)


def fill(collection, count: int) -> None:
    """Enter ``count`` random codes under names of photos that do not exist."""
    from niphash.collection.manifest import Entry

    rng = np.random.default_rng(1)
    with collection._writing() as (manifest, codes):
        with manifest.transaction():
            root = manifest.add_root(Path("/photos-of-the-benchmark"))
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            with manifest.transaction():
                ids = manifest.reserve(size)
                codes.add(rng.integers(0, 256, (size, collection.bits // 8), np.uint8), np.array(ids))
                manifest.add(
                    [Entry(n, root, b"%d.jpg" % n, n.to_bytes(16, "big"), 1, 1, 1, True) for n in ids]
                )


def describing_alone(model, files: list[Path], seconds: float) -> float:
    """Return photos a second of describing and hashing, one photo a call as the service does."""
    from niphash.parallel import cpu_count, map_ahead

    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        done += sum(1 for _ in map_ahead(lambda path: model.hash(path), files, cpu_count()))
    return done / (time.perf_counter() - start)


async def client(
    address, bodies: list[bytes], end: float, seed: int, seen: Counter, waits: list[float]
) -> None:
    """Ask again and again over one connection."""
    rng = np.random.default_rng(seed)
    reader = writer = None
    while time.perf_counter() < end:
        body = bodies[int(rng.integers(len(bodies)))]
        head = f"POST /search?k=10 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        start = time.perf_counter()
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(head.encode() + body)
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 120)
            length = int(re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)[1])
            await reader.readexactly(length)
            status = answer.split(b" ", 2)[1].decode()
        except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError) as error:
            status, writer = type(error).__name__, None
        seen[status] += 1
        if status == "200" and time.perf_counter() < end:
            waits.append(time.perf_counter() - start)
        elif status == "503":
            await asyncio.sleep(0.2)


async def load(
    address, bodies, clients: int, seconds: float, process
) -> tuple[Counter, list[float], list[float]]:
    seen, waits, memory = Counter(), [], []
    end = time.perf_counter() + seconds
    tasks = [asyncio.create_task(client(address, bodies, end, seed, seen, waits)) for seed in range(clients)]
    while time.perf_counter() < end:
        memory.append(process.memory_info().rss / 2**20)
        await asyncio.sleep(0.5)
    await asyncio.gather(*tasks)
    return seen, waits, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--model")
    options = parser.parse_args()
    from niphash.collection.collection import Collection
    from niphash.model import load as load_model

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "photos").mkdir()
        bodies = crops(200)
        files = [work / "photos" / f"{number}.jpg" for number in range(len(bodies))]
        for path, body in zip(files, bodies, strict=True):
            path.write_bytes(body)
        model = load_model(options.model) if options.model else fitted_model(files)
        collection = Collection.create(work / "index", model)
        collection.update([work / "photos"])
        start = time.perf_counter()
        fill(collection, options.codes)
        show(f"{len(collection)} photos entered in {time.perf_counter() - start:.0f} s")
        start = time.perf_counter()
        groups = sum(1 for _ in groups_of(collection))
        show(f"duplicates within 3 bits: {groups} groups in {time.perf_counter() - start:.1f} s")
        latency = search_latency(collection)
        show(f"search by code among {len(collection)}: {latency[0]:.2f} ms, p99 {latency[1]:.2f} ms")
        before = describing_alone(model, files, 10)
        command = [sys.executable, "-m", "niphash.apps.cli", "serve", str(work / "index"), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                line = process.stdout.readline()
                address = urlsplit(line.split(" at ")[1].split()[0])
                watched = psutil.Process(process.pid)
                seen, waits, memory = asyncio.run(
                    load(address, bodies, options.clients, options.seconds, watched)
                )
            finally:
                process.terminate()
        after = describing_alone(model, files, 10)
    rate, alone = len(waits) / options.seconds, (before + after) / 2
    half = len(memory) // 2
    show(f"{options.clients} clients, {options.seconds:.0f} s: {dict(seen)}")
    show(f"{rate:.1f} photos a second, describing alone {alone:.1f}: ratio {rate / alone:.2f}")
    show(f"answers: median {np.median(waits):.2f} s, p99 {np.quantile(waits, 0.99):.2f} s")
    show(f"memory in MiB: {memory[0]:.0f} first, {max(memory[:half]):.0f} most in the first half, "
         f"{max(memory[half:]):.0f} in the second")  # fmt: skip


def groups_of(collection):
    from niphash.collection.duplicates import duplicate_groups

    return duplicate_groups(collection, 3)


def search_latency(collection, count: int = 200) -> tuple[float, float]:
    """Return median and 99 % quantile in ms of a search by code, names and paths included."""
    ids = collection.manifest.ids()
    collection.search(ids[0], distance="hamming")
    times = []
    for number in np.random.default_rng(2).choice(ids, count):
        start = time.perf_counter()
        collection.search(int(number), k=10, distance="hamming")
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times)), float(np.quantile(times, 0.99))


if __name__ == "__main__":
    main()
