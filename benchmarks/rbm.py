"""RBM training: speed beside scikit-learn and beside bare matrix products, memory on a large store.

    python benchmarks/rbm.py                # both tables
    python benchmarks/rbm.py speed          # 4096-1024, batch 256
    python benchmarks/rbm.py memory         # 200 000 x 8192 float16, the 64-bit stack

Rates are ratios of one run: the competitors take turns, and the median of the turns counts.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from memory import peak_mib

from niphash.hashing.rbm.rbm import RBM, reconstruction_error
from niphash.hashing.rbm.regularizers import no_regularizer
from niphash.hashing.rbm.stack import RBMStack
from niphash.hashing.rbm.stage import RBMStage, RBMTraining
from niphash.training.fit_data import FitData
from niphash.training.fitting import fit_module
from niphash.training.streams import DescriptorBatches
from niphash.training.trainer import quiet_cpu_trainer

VISIBLE, HIDDEN, BATCH = 4096, 1024, 256
MATRIX_PRODUCTS = 5  # of CD-1: up, down, up, and the two correlations
ROWS, DIM, BITS = 200_000, 8192, 64


def binary_rows(count: int) -> np.ndarray:
    """Return float32 [count, VISIBLE] of zeros and ones with 64 hidden causes."""
    rng = np.random.default_rng(0)
    causes, mixing = rng.standard_normal((count, 64)), rng.standard_normal((64, VISIBLE))
    noise = 4 * rng.standard_normal((count, VISIBLE))
    return (causes @ mixing + noise > 0).astype(np.float32)


def ours(rows: np.ndarray, epochs: int, precision: str) -> tuple[float, float]:
    """Return samples a second of CD-1 through Lightning, and the reconstruction error reached."""
    rbm = RBM(VISIBLE, HIDDEN)
    rbm.initialise(0.01, torch.Generator().manual_seed(0))
    stage = RBMStage("rbm", rbm, no_regularizer, RBMTraining(learning_rate=0.01, momentum=0.9), seed=0)
    start = time.perf_counter()
    trainer = partial(quiet_cpu_trainer, precision=precision)
    batches = DescriptorBatches(FitData(rows), BATCH, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        fit_module(stage, batches, partial(trainer, default_root_dir=folder), "rbm", epochs)
    seconds = time.perf_counter() - start
    return epochs * len(rows) / seconds, float(reconstruction_error(rbm, torch.from_numpy(rows)))


def scikit_learn(rows: np.ndarray, epochs: int) -> tuple[float, float]:
    """Return the same of ``BernoulliRBM`` on the same float32 rows, with the same rate after momentum."""
    from sklearn.neural_network import BernoulliRBM

    machine = BernoulliRBM(HIDDEN, learning_rate=0.1, batch_size=BATCH, n_iter=epochs, random_state=0)
    start = time.perf_counter()
    machine.fit(rows)
    seconds = time.perf_counter() - start
    rbm = RBM(VISIBLE, HIDDEN)
    fitted = (machine.components_, machine.intercept_hidden_, machine.intercept_visible_)
    with torch.no_grad():
        for parameter, value in zip(rbm.parameters(), fitted, strict=True):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    return epochs * len(rows) / seconds, float(reconstruction_error(rbm, torch.from_numpy(rows)))


def matrix_product_rate(dtype: torch.dtype, seconds: float = 2.0) -> float:
    """Return GFLOP/s of [BATCH, VISIBLE] x [VISIBLE, HIDDEN]."""
    left, right = torch.randn(BATCH, VISIBLE).to(dtype), torch.randn(VISIBLE, HIDDEN).to(dtype)
    torch.mm(left, right)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        torch.mm(left, right)
        count += 1
    return count * 2 * BATCH * VISIBLE * HIDDEN / (time.perf_counter() - start) / 1e9


def speed(samples: int, epochs: int, turns: int) -> None:
    rows = binary_rows(samples)
    dtypes = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}
    names = ["scikit-learn", *dtypes]
    rates: dict[str, list[float]] = {name: [] for name in names}
    products: dict[str, list[float]] = {name: [] for name in dtypes}
    errors: dict[str, float] = {}
    for _ in range(turns):
        rate, errors["scikit-learn"] = scikit_learn(rows, epochs)
        rates["scikit-learn"].append(rate)
        for precision, dtype in dtypes.items():
            products[precision].append(matrix_product_rate(dtype))
            rate, errors[precision] = ours(rows, epochs, precision)
            rates[precision].append(rate)
            products[precision].append(matrix_product_rate(dtype))
    print(f"{VISIBLE}-{HIDDEN}, batch {BATCH}, {torch.get_num_threads()} threads, float32 rows")
    print(
        "| trainer | samples/s | x scikit-learn | reconstruction error | GFLOP/s | matrix product | share |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    flop = MATRIX_PRODUCTS * 2 * VISIBLE * HIDDEN / 1e9
    base = float(np.median(rates["scikit-learn"]))
    for name in names:
        rate = float(np.median(rates[name]))
        product = f"{np.median(products[name]):.0f}" if name in products else ""
        share = f"{rate * flop / np.median(products[name]):.2f}" if name in products else ""
        cells = (name, f"{rate:.0f}", f"{rate / base:.2f}", f"{errors[name]:.4f}", f"{rate * flop:.0f}")
        print(f"| {' | '.join((*cells, product, share))} |")


def memory(rows: int, layers: list[int] | None, batches: int) -> None:
    """Train on a file of random float16 rows in a process of its own and print its peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "descriptors.npy"
        store = np.lib.format.open_memmap(path, "w+", np.float16, (rows, DIM))
        rng = np.random.default_rng(0)
        for start in range(0, rows, 4096):
            block = rng.standard_normal((min(4096, rows - start), DIM), np.float32)
            store[start : start + 4096] = block / np.sqrt(DIM)
        store.flush()
        del store
        arguments = [str(path), ",".join(map(str, layers or [])), str(batches)]
        subprocess.run([sys.executable, __file__, "train-store", *arguments], check=True)


def train_store(path: str, layers: str, batches: int) -> None:
    descriptors = np.load(path, mmap_mode="r")
    sizes = [int(size) for size in layers.split(",")] if layers else None
    hasher = RBMStack(BITS, layers=sizes, max_epochs=1)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        limit = {"limit_train_batches": batches} if batches else {}
        hasher.fit(FitData(descriptors), partial(quiet_cpu_trainer, default_root_dir=folder, **limit))
    seconds = time.perf_counter() - start
    peak = peak_mib() / 1024
    steps = f"{batches} batches a layer" if batches else "one epoch a layer"
    sizes_used = "-".join(map(str, hasher.log_config()["layers"]))
    print(f"{len(descriptors)} x {DIM} float16, {sizes_used}, {steps}: peak {peak:.2f} GiB, {seconds:.0f} s")


def main() -> None:
    if sys.argv[1:2] == ["train-store"]:
        train_store(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("table", nargs="?", choices=("all", "speed", "memory"), default="all")
    parser.add_argument("--samples", type=int, default=4096, help="rows of the speed table")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the store")
    parser.add_argument("--layers", type=int, nargs="*", help="hidden sizes; default: the papers'")
    parser.add_argument("--batches", type=int, default=0, help="batches a layer; 0: a whole epoch")
    options = parser.parse_args()
    if options.table in ("all", "speed"):
        speed(options.samples, options.epochs, options.turns)
    if options.table in ("all", "memory"):
        memory(options.rows, options.layers, options.batches)


if __name__ == "__main__":
    main()
