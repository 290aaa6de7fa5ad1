"""Exact search side by side: own scan, faiss' scan, tables of words; on friendly and on hostile codes.

python benchmarks/search.py [--sizes 1e6 2e7] [--distribution clustered] [--only tables join] [--quick]
python benchmarks/search.py --only huge --sizes 1e9
python benchmarks/search.py --photos ../shared/data/caltech101 --model runs/itq/model --only tables

With --photos the codes are those of real photos, by a model of 64 bits, enlarged by flips of their bits.
Everything but the last rows runs on one thread, in turn, and the least of some CPU times counts. Each row
says what is compared with what; ratios are of one run on one machine.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rich import print as show
from rich.table import Table

K = (10, 100)
QUERIES = 20


def clustered(n: int, rng: np.random.Generator) -> np.ndarray:
    """Views of objects: about 20 codes around each centre, up to a fifth of the bits flipped."""
    centres = rng.integers(0, 2**64, max(n // 20, 1), np.uint64)
    return flipped(centres[rng.integers(0, len(centres), n)], 12, rng)


def uniform(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 2**64, n, np.uint64)


def biased(n: int, rng: np.random.Generator) -> np.ndarray:
    return packed(n, lambda count: rng.random((count, 64), np.float32) < 0.1)


def low_rank(n: int, rng: np.random.Generator) -> np.ndarray:
    axes = rng.standard_normal((8, 64), np.float32)
    return packed(n, lambda count: rng.standard_normal((count, 8), np.float32) @ axes > 0)


def equal(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.full(n, rng.integers(0, 2**64, dtype=np.uint64))


DISTRIBUTIONS = {f.__name__: f for f in (clustered, uniform, biased, low_rank, equal)}


def of_photos(folder: Path, model_folder: Path) -> Callable[[int, np.random.Generator], np.ndarray]:
    """Return a distribution: the codes of photos, then copies of them, up to a fifth of the bits flipped."""
    from niphash import load
    from niphash.config import compose
    from niphash.data.images import ImageSet
    from niphash.descriptors.describer import DescribeReport
    from niphash.descriptors.store.store import DescriptorStore, describe_to_store

    model = load(model_folder)
    if model.bits != 64:
        raise SystemExit(f"{model_folder}: {model.bits} bits; name a model of 64")
    store = DescriptorStore.of(model.describer, Path(compose().paths.data_dir) / "descriptors")
    described = describe_to_store(model.describer, ImageSet.from_folder(folder), store, DescribeReport())
    rows = np.flatnonzero(described.positions >= 0)
    parts = [model.hasher.encode(described[rows[s : s + 1024]]) for s in range(0, len(rows), 1024)]
    words = np.concatenate(parts).view(np.uint64)[:, 0]
    distinct = len(np.unique(words))
    show(f"codes of {len(words):,} photos, {distinct:,} distinct, by {type(model.hasher).__name__}")

    def photos(n: int, rng: np.random.Generator) -> np.ndarray:
        copies = flipped(words[rng.integers(0, len(words), max(n - len(words), 0))], 12, rng)
        return np.concatenate([words[:n], copies])

    return photos


def packed(n: int, bits: Callable[[int], np.ndarray]) -> np.ndarray:
    parts = [
        np.packbits(bits(min(250_000, n - s)), axis=1).view(np.uint64)[:, 0] for s in range(0, n, 250_000)
    ]
    return np.concatenate(parts)


def flipped(codes: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Flip up to about ``most`` bits of each code."""
    out = np.empty_like(codes)
    for start in range(0, len(codes), 250_000):
        part = codes[start : start + 250_000]
        share = rng.integers(0, most + 1, (len(part), 1)) / 64
        bits = rng.random((len(part), 64), np.float32) < share
        out[start : start + 250_000] = part ^ np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    return out


def as_codes(words: np.ndarray) -> np.ndarray:
    return words.view(np.uint8).reshape(len(words), 8)


def projections(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    signs = np.where(np.unpackbits(codes, axis=1, bitorder="little"), 1.0, -1.0)
    return (signs * np.abs(rng.standard_normal(signs.shape))).astype(np.float32)


def least(work: Callable[[], object], times: int = 5) -> float:
    """Return the least CPU milliseconds of some runs."""
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return 1e3 * min(found)


def each(search: Callable[[np.ndarray], object], queries: np.ndarray) -> Callable[[], None]:
    """Return a function that searches for one query after the other."""

    def run() -> None:
        for query in queries:
            search(query[None])

    return run


def bandwidth(megabytes: int = 512) -> float:
    """Return GB/s at which numpy reads memory."""
    values = np.ones(megabytes * 2**17)
    return values.nbytes / 1e6 / least(lambda: np.add.reduce(values))


def compare_scans(words: np.ndarray, queries: np.ndarray) -> Iterator[tuple[str, str, str]]:
    import faiss

    from niphash.search import FlatIndex

    faiss.omp_set_num_threads(1)
    flat, peer = FlatIndex(64, threads=1), faiss.IndexBinaryFlat(64)
    flat.add(as_codes(words))
    peer.add(as_codes(words))
    batch = np.concatenate([queries, queries])[:32]
    one = least(each(lambda query: flat.search(query, 10), queries[:5])) / 5
    many = least(lambda: flat.search(batch, 10), 3) / len(batch)
    peer_one = least(each(lambda query: peer.search(query, 10), queries[:5]), 3) / 5
    peer_many = least(lambda: peer.search(batch, 10), 1) / len(batch)
    yield (
        "flat, one query / faiss flat",
        f"{one:.2f} ms / {peer_one:.2f} ms",
        f"{peer_one / one:.1f} x (>= 3.5)",
    )
    yield (
        "flat, 32 queries / faiss flat",
        f"{many:.2f} ms / {peer_many:.2f} ms",
        f"{peer_many / many:.1f} x (>= 8)",
    )


def compare_tables(words: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    """Near queries and queries far from everything, by both distances."""
    from niphash.search import FlatIndex, MultiIndex

    flat, multi = FlatIndex(64, threads=1), MultiIndex(64, threads=1, tables_from=0)
    flat.add(as_codes(words))
    start = time.process_time()
    multi.add(as_codes(words))
    multi.search(as_codes(words[:1]), 1)
    size = multi.stats().bytes / len(words)
    yield (
        "build of four tables and rows",
        f"{time.process_time() - start:.1f} s CPU",
        f"{size:.0f} bytes a code",
    )
    near = as_codes(flipped(words[rng.integers(0, len(words), QUERIES)], 4, rng))
    for name, queries in (("near", near), ("random", as_codes(uniform(QUERIES, rng)))):
        for distance in ("hamming", "asymmetric"):
            asked = queries if distance == "hamming" else projections(queries, rng)
            for k in K:
                check(multi.search(asked, k, distance), flat.search(asked, k, distance))
                ours = least(each(lambda q, k=k, d=distance: multi.search(q, k, d), asked), 3) / QUERIES
                if distance == "hamming":
                    scan = least(each(lambda q, k=k: flat.search(q, k), asked[:5]), 3) / 5
                else:
                    scan = byte_table_scan(flat, asked[:3], k)
                against = "own flat scan" if distance == "hamming" else "byte-table scan"
                yield (
                    f"multi, {name}, {distance}, k={k} / {against}",
                    f"{ours:.3f} ms / {scan:.2f} ms",
                    f"{scan / ours:.1f} x",
                )
                if distance == "asymmetric":
                    planes = least(each(lambda q, k=k: flat.search(q, k, "asymmetric"), asked[:3]), 2) / 3
                    yield (
                        f"flat, {name}, asymmetric, k={k} / byte-table scan",
                        f"{planes:.2f} ms / {scan:.2f} ms",
                        f"{scan / planes:.1f} x",
                    )


def byte_table_scan(flat, asked: np.ndarray, k: int) -> float:
    """Time the scan by eight lookups a code: that of bit-planes with planes that rule nothing out."""
    from niphash.search.compilation import kernels
    from niphash.search.queries import Queries
    from niphash.search.segment import empty_keys, no_limits

    queries = Queries.of(asked, "asymmetric", 64)
    planes = flat._state.segments[0].planes
    size, masks, keys = len(flat), np.zeros_like(queries.masks), empty_keys(no_limits(len(asked)), k)

    def scan() -> None:
        kernels().flat.scan_weighted(
            planes, 0, size, queries.words, masks, queries.units, queries.byte_tables, keys.copy()
        )

    return least(scan, 2) / len(asked)


def compare_hostile(n: int, rng: np.random.Generator, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    import faiss

    from niphash.search import FlatIndex, MultiIndex

    faiss.omp_set_num_threads(1)
    for name in names:
        words = DISTRIBUTIONS[name](n, rng)
        flat, multi = FlatIndex(64, threads=1), MultiIndex(64, threads=1, tables_from=0)
        flat.add(as_codes(words))
        multi.add(as_codes(words))
        multi.search(as_codes(words[:1]), 1)
        peer = faiss.IndexBinaryFlat(64)
        peer.add(as_codes(words))
        worst: list[tuple[float, str]] = []
        own = words[rng.integers(0, n, 6)]
        for kind, asked in (("random", uniform(6, rng)), ("complement", ~own), ("member", own)):
            queries = as_codes(asked)
            peer_ms = least(each(lambda q, p=peer: p.search(q, 10), queries[:2]), 1) / 2
            for k in (1, *K):
                check(multi.search(queries, k), flat.search(queries, k))
                ours = least(each(lambda q, k=k, m=multi: m.search(q, k), queries), 3)
                scan = least(each(lambda q, k=k, f=flat: f.search(q, k), queries), 3)
                text = f"{kind}, k={k}: {ours / 6:.2f} / {scan / 6:.2f} ms, faiss {peer_ms:.2f}"
                worst.append((scan / ours, text))
        ratio, where = min(worst)
        yield f"multi on {name} codes at its worst / own flat scan", where, f"{ratio:.2f} x (>= 0.77)"


def check(found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        if not np.array_equal(ours, theirs):
            raise SystemExit("an answer is not exact")


def measure_files(words: np.ndarray, folder: Path) -> Iterator[tuple[str, str, str]]:
    from niphash.search import MultiIndex

    index = MultiIndex(64, threads=1, tables_from=0)
    index.add(as_codes(words))
    index.search(as_codes(words[:1]), 1)
    start = time.perf_counter()
    index.save(folder)
    yield "save", f"{time.perf_counter() - start:.2f} s", f"{index.stats().bytes / 2**20:.0f} MiB"
    os.sync()
    np.save(folder.parent / "query.npy", as_codes(words[:1]))
    program = [sys.executable, "-c", FIRST_QUERY, str(folder), str(folder.parent / "query.npy")]
    opened, asked = map(float, subprocess.check_output(program, text=True).split())
    yield "open memory-mapped", f"{opened:.1f} ms (<= 50)", f"first query {asked:.1f} ms (<= 20)"


#: In a process of its own, with compiled kernels and files that the system has in memory.
FIRST_QUERY = """
import sys, time
import numpy as np
from niphash.search import MultiIndex
from niphash.search.compilation import compile_kernels
compile_kernels()
start = time.perf_counter()
index = MultiIndex.open(sys.argv[1])
middle = time.perf_counter()
index.search(np.load(sys.argv[2]), 10)
print(1e3 * (middle - start), 1e3 * (time.perf_counter() - middle))
"""


def measure_additions(words: np.ndarray, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Add a twentieth more in small parts while searches go on in another thread, wall time."""
    from niphash.search import MultiIndex, StoredIndex

    more, queries = len(words) // 20, as_codes(words[:200])
    with StoredIndex(folder, MultiIndex(64, threads=1), write=True, threads=1) as index:
        index.add(as_codes(words[more:]))
        index.flush()

        def latencies(until: Callable[[int], bool]) -> np.ndarray:
            found: list[float] = []
            while not until(len(found)):
                start = time.perf_counter()
                index.search(queries[len(found) % 200][None], 10)
                found.append(time.perf_counter() - start)
            return 1e3 * np.array(found)

        quiet = latencies(lambda count: count >= 300)
        adding = threading.Thread(
            target=lambda: [
                index.add(as_codes(words[s : min(s + 10_000, more)])) for s in range(0, more, 10_000)
            ]
        )
        start = time.perf_counter()
        adding.start()
        busy = latencies(lambda count: not adding.is_alive() and count >= 100)
        adding.join()
        rate = more / (time.perf_counter() - start)
        index.flush()
    p99 = [float(np.percentile(values, 99)) for values in (busy, quiet)]
    yield (
        f"p99 of searches while {more:,} codes are added / quiet",
        f"{p99[0]:.1f} ms / {p99[1]:.1f} ms",
        f"{p99[0] / p99[1]:.1f} x (<= 3), {rate:,.0f} codes/s",
    )


def measure_join(rng: np.random.Generator, n: int) -> Iterator[tuple[str, str, str]]:
    from niphash.search import MultiIndex

    words = uniform(n, rng)
    words[: n // 100] = flipped(words[n // 100 : 2 * (n // 100)], 3, rng)
    index = MultiIndex(64)
    index.add(as_codes(words))
    planted = np.bitwise_count(words[: n // 100] ^ words[n // 100 : 2 * (n // 100)]) <= 3
    start, cpu = time.perf_counter(), time.process_time()
    found = {
        pair
        for part in index.self_join(3)
        for pair in zip(part.left.tolist(), part.right.tolist(), strict=True)
    }
    wanted = {(i, i + n // 100) for i in np.flatnonzero(planted).tolist()}
    yield (
        f"self-join of {n:,} codes within 3 bits",
        f"{time.perf_counter() - start:.1f} s, {time.process_time() - cpu:.1f} s CPU (<= 20)",
        f"{len(wanted & found)} of {len(wanted)} planted pairs, {len(found)} in all",
    )


def measure_huge(n: int, folder: Path, distribution: str) -> Iterator[tuple[str, str, str]]:
    """As many codes as memory holds: two tables without rows, built from a file that is mapped."""
    from niphash.search.flat import FlatSegment
    from niphash.search.queries import Queries
    from niphash.search.segment import SortedIds, no_limits
    from niphash.search.tables import TableSegment

    part = 20_000_000
    folder.mkdir(parents=True)
    words = np.lib.format.open_memmap(folder / "codes.npy", "w+", np.uint64, (1, n))
    for start in range(0, n, part):
        stop = min(start + part, n)
        words[0, start:stop] = DISTRIBUTIONS[distribution](stop - start, np.random.default_rng(start))
    words.flush()
    rng = np.random.default_rng(0)
    near = flipped(words[0, rng.integers(0, n, QUERIES)], 4, rng)
    start = time.process_time()
    segment = TableSegment.of(
        FlatSegment(64, words, SortedIds.run(0, n)), tables=2, keep_rows=False, threads=1
    )
    spent = time.process_time() - start
    size = sum(array.nbytes for array in segment.arrays().values())
    yield "build of two tables", f"{spent:.0f} s CPU (<= 300)", f"{size / 2**30:.1f} GiB"
    for name, asked in (("near", near), ("random", uniform(QUERIES, rng))):
        queries = Queries.of(as_codes(asked), "hamming", 64)
        limits = no_limits(len(queries))
        found = segment.nearest(queries, 10, limits, 1)
        scanned = segment._scan(queries[np.arange(2)], 10, limits[:2], 1)
        if not np.array_equal(found[:2], np.sort(scanned, axis=1)):
            raise SystemExit("an answer is not exact")
        ours = least(lambda q=queries, m=limits: segment.nearest(q, 10, m, 1), 2) / len(queries)
        scan = least(lambda q=queries, m=limits: segment._scan(q[np.arange(1)], 10, m[:1], 1), 1)
        yield (
            f"two tables, {name}, k=10 / their scan",
            f"{ours:.1f} ms (<= 100) / {scan:.0f} ms",
            f"{scan / ours:.1f} x",
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e6, 2e7])
    parser.add_argument("--distribution", choices=DISTRIBUTIONS, default="clustered")
    parser.add_argument("--photos", type=Path, help="folder of photos whose codes are the distribution")
    parser.add_argument("--model", type=Path, help="folder of the model of 64 bits that makes them")
    parser.add_argument("--quick", action="store_true", help="200 000 codes, to see that it runs")
    parser.add_argument(
        "--only", nargs="+", choices=("scans", "tables", "hostile", "files", "additions", "join", "huge")
    )
    arguments = parser.parse_args()
    distribution, names = arguments.distribution, ("biased", "low_rank", "uniform", "equal")
    if arguments.photos is not None:
        if arguments.model is None:
            parser.error("--photos needs --model, a folder of a model of 64 bits")
        distribution, names = "photos", ("photos",)
        DISTRIBUTIONS["photos"] = of_photos(arguments.photos, arguments.model)
    sizes = [2e5] if arguments.quick else arguments.sizes
    parts = arguments.only or ["scans", "tables", "hostile", "files", "additions", "join"]
    from niphash.search.compilation import compile_kernels

    compile_kernels()
    show(f"memory is read at {bandwidth():.1f} GB/s by one thread")
    for n in map(int, sizes):
        rng = np.random.default_rng(0)
        words = DISTRIBUTIONS[distribution](QUERIES if parts == ["huge"] else n, rng)
        near = as_codes(flipped(words[:QUERIES], 4, rng))
        folder = Path(tempfile.mkdtemp(prefix="search"))
        steps: dict[str, Callable[[], Iterator[tuple[str, str, str]]]] = {
            "scans": lambda words=words, near=near: compare_scans(words, near),
            "tables": lambda words=words, rng=rng: compare_tables(words, rng),
            "hostile": lambda n=n, rng=rng: compare_hostile(n, rng, names),
            "files": lambda words=words, folder=folder: measure_files(words, folder / "saved"),
            "additions": lambda words=words, folder=folder: measure_additions(words, folder / "stored"),
            "join": lambda n=n, rng=rng: measure_join(rng, min(n, 1_000_000)),
            "huge": lambda n=n, folder=folder: measure_huge(n, folder / "huge", distribution),
        }
        table = Table("what", "measured", "ratio", title=f"{n:,} {distribution} codes of 64 bits")
        try:
            for part in parts:
                for row in steps[part]():
                    table.add_row(*row)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            show(table)


if __name__ == "__main__":
    main()
