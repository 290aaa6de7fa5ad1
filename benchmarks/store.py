"""The descriptor store: 200 000 x 8192 float16 written and read back in blocks, extrapolated to a million.

python benchmarks/store.py [--rows 200000] [--folder /tmp]

Writing and reading run in processes of their own, so that each one's peak memory is its own. Beside them, the
rate at which numpy writes and reads one plain file of the same size on the same disk.
"""

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from memory import peak_mib
from rich import print as show
from rich.table import Table

DIM, SHARD, BLOCK = 8192, 512, 2048
FINGERPRINT = "0" * 32
LIMIT_MIB = 1024


def store_at(folder: Path):
    from niphash.descriptors.store.store import DescriptorStore

    return DescriptorStore(folder, FINGERPRINT, DIM, "float16")


def write_store(folder: Path, rows: int) -> int:
    rng = np.random.default_rng(0)
    store, values = store_at(folder), rng.standard_normal((SHARD, DIM), np.float32)
    for start in range(0, rows, SHARD):
        n = min(SHARD, rows - start)
        store.append(rng.integers(0, 256, (n, 16), np.uint8), values[:n])
    return len(store)


def read_store(folder: Path, rows: int) -> int:
    return sum(len(block) for block in store_at(folder).all().blocks(BLOCK))


def read_shuffled(folder: Path, rows: int) -> int:
    return sum(len(block) for block in store_at(folder).all().blocks(BLOCK, seed=0))


def write_plain(folder: Path, rows: int) -> int:
    values = np.random.default_rng(0).standard_normal((SHARD, DIM), np.float32).astype(np.float16)
    with (folder / "plain").open("wb") as file:
        for start in range(0, rows, SHARD):
            values[: min(SHARD, rows - start)].tofile(file)
    return rows


def read_plain(folder: Path, rows: int) -> int:
    with (folder / "plain").open("rb") as file:
        blocks = (
            np.fromfile(file, np.float16, BLOCK * DIM).astype(np.float32) for _ in range(0, rows, BLOCK)
        )
        return sum(block.size // DIM for block in blocks)


def measure(work: Callable[[Path, int], int], folder: Path, rows: int) -> tuple[float, float]:
    """Return seconds and peak MiB of ``work`` in a fresh process."""
    processes = multiprocessing.get_context("spawn")
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=_measure, args=(work, folder, rows, sender))
    process.start()
    sender.close()
    seconds, peak, done = receiver.recv()
    process.join()
    if done != rows:
        raise SystemExit(f"{work.__name__} handled {done} of {rows} descriptors")
    return seconds, peak


def _measure(work, folder, rows, sender) -> None:
    start = time.perf_counter()
    done = work(folder, rows)
    sender.send((time.perf_counter() - start, peak_mib(), done))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--folder", default=None, help="where the temporary folder is made")
    options = parser.parse_args()
    size = options.rows * DIM * 2
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if shutil.disk_usage(folder).free < 1.2 * size:
            raise SystemExit(f"{folder}: {1.2 * size / 2**30:.1f} GiB free are needed; name another --folder")
        table = Table(
            "work",
            "seconds",
            "MiB a second",
            "of plain",
            "peak MiB",
            "a million",
            title=f"{options.rows} x {DIM} float16",
        )
        worst, plain = 0.0, {}
        for work in (write_plain, read_plain, None, write_store, read_store, read_shuffled):
            if work is None:
                (folder / "plain").unlink()
                continue
            seconds, peak = measure(work, folder, options.rows)
            rate = size / 2**20 / seconds
            kind = work.__name__.split("_")[0]
            plain.setdefault(kind, rate)
            worst = max(worst, peak)
            million = f"{seconds * 1e6 / options.rows / 60:.1f} min"
            table.add_row(
                work.__name__,
                f"{seconds:.1f}",
                f"{rate:.0f}",
                f"{rate / plain[kind]:.2f}",
                f"{peak:.0f}",
                million,
            )
        show(table)
    sys.exit(0 if worst < LIMIT_MIB else 1)


if __name__ == "__main__":
    main()
