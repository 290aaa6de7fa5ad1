"""Evaluation at scale: 500 queries, 100 000 and 1 000 000 random 64-bit codes, 1000 relevant images each.

python benchmarks/evaluate.py

Each size runs in a process of its own, so that its peak memory is its own.
"""

import multiprocessing
import sys
import time
from multiprocessing.connection import Connection

import numpy as np
from memory import peak_mib
from rich import print as show
from rich.table import Table

QUERIES, RELEVANT, BYTES = 500, 1000, 8
SIZES = (100_000, 300_000, 1_000_000)


def measure(size: int, sender: Connection) -> None:
    from niphash.data.task import Relevance
    from niphash.evaluation.evaluator import evaluate
    from niphash.search.ranking import rank_codes

    rng = np.random.default_rng(0)
    queries, database = (rng.integers(0, 256, (count, BYTES), np.uint8) for count in (QUERIES, size))
    truth = [Relevance(rng.choice(size, RELEVANT, replace=False)) for _ in range(QUERIES)]
    start = time.perf_counter()
    means = evaluate(rank_codes(queries, database, truth), truth).means
    seconds = time.perf_counter() - start
    sender.send((size, seconds, peak_mib(), means["mAP"], means["recall@1000"]))


def main() -> None:
    table = Table(
        "size", "seconds", "peak MiB", "mAP", "recall@1000", "seconds / size", title=f"{QUERIES} queries"
    )
    processes = multiprocessing.get_context("spawn")
    rates = []
    for size in SIZES:
        receiver, sender = processes.Pipe(duplex=False)
        process = processes.Process(target=measure, args=(size, sender))
        process.start()
        _, seconds, peak, mean, recall = receiver.recv()
        process.join()
        rates.append(seconds / size)
        ratio = f"{rates[-1] / rates[0]:.2f} of the first"
        table.add_row(f"{size}", f"{seconds:.2f}", f"{peak:.0f}", f"{mean:.6f}", f"{recall:.6f}", ratio)
    show(table)
    sys.exit(0 if seconds < 60 and peak < 2048 else 1)


if __name__ == "__main__":
    main()
