"""Other people's hashes beside ours: `benchmarks/rivals.py --data sample [--out FOLDER] [data.root=.. ..]`.

Two tasks. The data set's own: find other photos of the same thing. And copies: each of `--photos` database
photos is edited in six ways (crop, turn, resize, JPEG, text overlay, colour) and must find itself among all
database photos. Everything is ranked by one evaluator with one tie rule, intervals are over clusters of
queries. What learns is fitted on the fit photos of the data set (or `fit.root=<folder>`), never on tested
ones. Recall at precision 0.99: one threshold on the distance over all pairs of query and database photo, the
most of the true pairs that lie below it while 99 % of what lies below is true; the same of the distance over
that of the nearest other photo, once more with as many queries whose photos are taken out of the database.

Needs `pip install niphash[rivals]`; what is not installed is left out, and said.
"""

import argparse
import csv
import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from niphash.config import compose
from niphash.data.images import ImageSet
from niphash.data.task import Relevance, RetrievalTask
from niphash.descriptors.store.store import StoredDescriptors
from niphash.errors import InputError
from niphash.evaluation.evaluator import Report, evaluate
from niphash.pipeline.run import Run, assemble
from niphash.progress import track
from niphash.search import FlatIndex
from niphash.search.comparison import code_distances, distance_ratios, spread
from niphash.search.distances import Block, Distances
from niphash.search.ranking import rank
from niphash.studies.hashed import HashingBench, hashing_bench
from niphash.studies.measured import shared_fits

PRECISION = 0.99
STEPS = 2**20  # in which real distances are told apart
NEIGHBOURS = 10  # that a timed search returns
DRAWS = 500


@dataclass(frozen=True)
class Edit:
    """One of :data:`EDITS`, drawn anew for every photo from ``seed`` and its number."""

    name: str
    seed: int

    @property
    def key(self) -> str:
        """Text that determines the change."""
        return f"edit({self.name},{self.seed})"

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """Return the edited picture."""
        return EDITS[self.name](image.convert("RGB"), np.random.default_rng([self.seed, index]))


def crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Keep 70 to 90 % of either side, anywhere."""
    width, height = (round(side * rng.uniform(0.7, 0.9)) for side in image.size)
    left, top = (
        int(rng.integers(0, whole - part + 1))
        for whole, part in zip(image.size, (width, height), strict=True)
    )
    return image.crop((left, top, left + width, top + height))


def turn(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turn by 5 to 20 degrees either way; the corners are black."""
    return image.rotate(rng.choice([-1, 1]) * rng.uniform(5, 20), Image.Resampling.BICUBIC)


def resize(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Shrink to 30 to 60 %, and the sides by up to 15 % differently."""
    share, stretch = rng.uniform(0.3, 0.6), rng.uniform(0.85, 1.15)
    return image.resize((max(8, round(image.width * share * stretch)), max(8, round(image.height * share))))


def jpeg(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Compress with quality 10 to 30."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(10, 31)))
    return Image.open(file).convert("RGB")


def text(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Write a line of white text on a dark bar over a sixth of the height."""
    image = image.copy()
    height = max(8, image.height // 6)
    top = int(rng.integers(0, image.height - height + 1))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, top, image.width, top + height), fill=(20, 20, 20))
    draw.text(
        (height // 4, top + height // 6), "seen today, 12:30", "white", ImageFont.load_default(height * 0.6)
    )
    return image


def colour(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change brightness, contrast and saturation by factors of 0.6 to 1.5."""
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(rng.uniform(0.6, 1.5))
    return image


EDITS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    edit.__name__: edit for edit in (crop, turn, resize, jpeg, text, colour)
}


@dataclass(frozen=True, eq=False)
class Field:
    """One task, described.

    Attributes:
        bench: Task, descriptors, fit photos.
    """

    bench: HashingBench

    @property
    def task(self) -> RetrievalTask:
        """What is searched for in what."""
        return self.bench.bench.task

    @cached_property
    def relevant(self) -> np.ndarray:
        """bool [Q, N], the true pairs."""
        pairs = np.zeros((len(self.task.queries), len(self.task.database)), bool)
        for query, truth in enumerate(self.task.relevance):
            pairs[query, truth.relevant] = True
        return pairs

    @cached_property
    def counted(self) -> np.ndarray:
        """bool [Q, N], the pairs that are no junk."""
        pairs = np.ones((len(self.task.queries), len(self.task.database)), bool)
        for query, truth in enumerate(self.task.relevance):
            pairs[query, truth.junk] = False
        return pairs


def copies(bench: HashingBench, photos: int, seed: int) -> HashingBench:
    """Return the task of finding edited copies among all database photos, described as ``bench`` is."""
    task = bench.bench.task
    readable = np.flatnonzero(stored_database(bench).positions >= 0)
    chosen = np.sort(np.random.default_rng(seed).permutation(readable)[:photos])
    originals = task.database.subset(chosen.tolist())
    edited = [originals.with_view(Edit(name, seed)) for name in EDITS]
    queries = ImageSet(
        tuple(f"{image_id} {name}" for name in EDITS for image_id in originals.ids),
        originals.sources * len(EDITS),
    )
    relevance = tuple(Relevance(np.array([row])) for _ in EDITS for row in chosen)
    made = RetrievalTask(
        "copies", "edited copies, the original is relevant", task.database, queries, relevance
    )
    describe = bench.bench.fitted(bench.run.describer)
    rows = np.concatenate([describe(images) for images in edited])
    return replace(bench, bench=replace(bench.bench, task=made), queries=rows)


def stored_database(bench: HashingBench) -> StoredDescriptors:
    """Return the descriptors of the database as they lie in the store, blank photos among them."""
    return bench.bench.fitted(bench.run.describer).stored(bench.bench.task.database)


def query_images(field: Field) -> Iterator[Image.Image]:
    """Yield the pictures of the queries, edited where they are."""
    task = field.task
    if task.name != "copies":
        yield from (task.queries.image(row) for row in range(len(task.queries)))
        return
    count = len(task.queries) // len(EDITS)
    for place, name in enumerate(EDITS):
        part = task.queries.subset(range(place * count, (place + 1) * count))
        chosen = [int(truth.relevant[0]) for truth in task.relevance[:count]]
        images = field.task.database.subset(chosen).with_view(Edit(name, field.bench.run.seed))
        assert images.sources == part.sources
        yield from (images.image(row) for row in range(count))


class Matrix(Distances):
    """Distances as they are, float [Q, N]; infinite where a search did not return the image."""

    def __init__(self, values: np.ndarray) -> None:
        self.queries, self.database = values.shape
        self._found = np.isfinite(values)
        top = values[self._found].max(initial=1)
        whole = np.array_equal(values[self._found], np.rint(values[self._found])) and top < STEPS
        scaled = values if whole else (values - values[self._found].min(initial=0)) * (STEPS / max(top, 1e-9))
        self._values = np.where(self._found, np.nan_to_num(np.rint(scaled), posinf=0), 0).astype(np.int64)
        self.levels = None

    def blocks(self) -> Iterator[Block]:
        """Yield a query at a time."""
        for query in range(self.queries):
            ids = np.flatnonzero(self._found[query])
            yield Block(np.array([query]), ids, self._values[query, ids][None])

    @property
    def steps(self) -> int:
        """How many blocks there are."""
        return self.queries

    def pairs(self, queries: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the distances of pairs, and whether they were found."""
        return self._values[queries, ids], self._found[queries, ids]

    def as_reported(self, distances: np.ndarray) -> np.ndarray:
        """Return the integers."""
        return distances


@dataclass(frozen=True)
class Answer:
    """What one rival answered: its name, bytes a photo, distances float [Q, N], microseconds a query."""

    name: str
    size: float
    distances: np.ndarray
    microseconds: float


Rival = Callable[[Field], Answer]


def timed(search: Callable[[], object], queries: int) -> float:
    """Return microseconds a query: the best of three rounds."""
    rounds = []
    for _ in range(3):
        start = time.perf_counter()
        search()
        rounds.append(time.perf_counter() - start)
    return min(rounds) / queries * 1e6


def by_codes(
    name: str, queries: np.ndarray, database: np.ndarray, readable_queries: np.ndarray, readable: np.ndarray
) -> Answer:
    """Return the answer of packed codes under the Hamming distance.

    Args:
        name: Of the rival.
        queries: uint8 [q, B], the codes of the queries that have one.
        database: uint8 [n, B], the codes of the photos that have one.
        readable_queries: bool [Q], which queries these are.
        readable: bool [N], which photos.
    """
    ones = [np.unpackbits(codes, axis=1).astype(np.float32) for codes in (queries, database)]
    same = ones[0] @ ones[1].T
    distances = np.full((len(readable_queries), len(readable)), np.inf)
    distances[np.ix_(readable_queries, readable)] = ones[0].sum(1)[:, None] + ones[1].sum(1)[None] - 2 * same
    index = FlatIndex(bits=8 * database.shape[1], threads=1)
    index.add(database)
    micros = timed(lambda: index.search(queries, NEIGHBOURS), len(queries))
    return Answer(name, database.shape[1], distances, micros)


def by_pixels(name: str, code: Callable[[Image.Image], np.ndarray]) -> Rival:
    """Return a rival that makes its code, uint8 [B], of the picture alone."""
    known: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # databases are one and the same

    def answer(field: Field) -> Answer:
        images = field.task.database
        if id(images) not in known:
            readable = stored_database(field.bench).positions >= 0
            rows = track(np.flatnonzero(readable).tolist(), f"{name}, database")
            known[id(images)] = np.stack([code(images.image(row)) for row in rows]), readable
        queries = np.stack([code(image) for image in query_images(field)])
        database, readable = known[id(images)]
        return by_codes(name, queries, database, np.ones(len(queries), bool), readable)

    return answer


def pixel_rivals() -> Iterator[tuple[str, Callable[[], Callable[[Image.Image], np.ndarray]]]]:
    """Yield names, and what imports the hash of that name."""

    def imagehash_code(function: str) -> Callable[[Image.Image], np.ndarray]:
        import imagehash

        return lambda image: np.packbits(getattr(imagehash, function)(image).hash.ravel())

    def pdq() -> Callable[[Image.Image], np.ndarray]:
        import pdqhash

        return lambda image: np.packbits(pdqhash.compute(np.ascontiguousarray(image))[0].astype(np.uint8))

    def imagededup_code(kind: str) -> Callable[[Image.Image], np.ndarray]:
        from imagededup import methods

        hasher = getattr(methods, kind)()
        return lambda image: np.frombuffer(
            bytes.fromhex(hasher.encode_image(image_array=np.asarray(image))), np.uint8
        )

    yield "PDQ (pdqhash)", pdq
    for function in ("phash", "dhash"):
        yield f"{function} (imagehash)", lambda function=function: imagehash_code(function)
    for kind in ("PHash", "AHash", "DHash", "WHash"):
        yield f"{kind} (imagededup)", lambda kind=kind: imagededup_code(kind)


def by_niphash(name: str, overrides: Sequence[str], distance: str = "hamming") -> Rival:
    """Return a rival of ours; it is fitted once."""
    fitted: list[Any] = []

    def answer(field: Field) -> Answer:
        bench = field.bench
        fitted[:] = fitted or [bench.fit(overrides)]
        hasher = fitted[0]
        codes = hasher.encode(bench.database[bench.readable])
        queries = bench.queries[bench.readable_queries]
        if distance == "hamming":
            return by_codes(name, hasher.encode(queries), codes, bench.readable_queries, bench.readable)
        placed = spread(codes, bench.readable)
        source = code_distances(hasher, bench.queries, placed, bench.readable, "asymmetric")
        index = FlatIndex(bits=hasher.bits, threads=1)
        index.add(codes)
        projections = hasher.project(queries)
        micros = timed(lambda: index.search(projections, NEIGHBOURS, "asymmetric"), len(projections))
        return Answer(name, codes.shape[1], filled(source), micros)

    return answer


def filled(source: Distances) -> np.ndarray:
    """Return all distances of a source, float [Q, N], infinite where there is none."""
    values = np.full((source.queries, source.database), np.inf)
    for block in source.blocks():
        values[np.ix_(block.queries, block.ids)] = block.distances
    return values


def faiss_itq(bits: int) -> Rival:
    """Return ITQ as faiss trains it, with its PCA, signs about the mean."""

    def answer(field: Field) -> Answer:
        bench = field.bench
        transform = faiss.ITQTransform(bench.photos.shape[1], bits, True)
        transform.train(bench.photos)
        middle = transform.apply(bench.photos).mean(axis=0)
        queries, database = (
            np.packbits(transform.apply(rows) > middle, axis=1)
            for rows in (bench.queries[bench.readable_queries], bench.database[bench.readable])
        )
        return by_codes(f"ITQ {bits} (faiss)", queries, database, bench.readable_queries, bench.readable)

    return answer


def faiss_index(name: str, make: Callable[[HashingBench], tuple[faiss.Index, float]]) -> Rival:
    """Return a rival whose distances are those that a faiss index returns when asked for everything."""

    def answer(field: Field) -> Answer:
        bench = field.bench
        index, size = make(bench)
        readable_queries, rows = np.flatnonzero(bench.readable_queries), np.flatnonzero(bench.readable)
        queries = bench.queries[readable_queries]
        if not index.is_trained:
            index.train(bench.photos)
        index.add(bench.database[rows])
        micros = timed(lambda: index.search(queries, NEIGHBOURS), len(queries))
        found, ids = index.search(queries, len(rows))
        if index.metric_type == faiss.METRIC_INNER_PRODUCT:
            found = 1 - found
        values = np.full((len(bench.queries), len(bench.database)), np.inf)
        query, place = np.nonzero(ids >= 0)
        values[readable_queries[query], rows[ids[query, place]]] = found[query, place]
        return Answer(name, size, values, micros)

    return answer


def rabitq(bits: int) -> Callable[[HashingBench], tuple[faiss.Index, float]]:
    """Return what makes RaBitQ of one bit on each of the first ``bits`` principal components."""

    def make(bench: HashingBench) -> tuple[faiss.Index, float]:
        inner = faiss.IndexRaBitQ(bits, faiss.METRIC_L2)
        size = inner.code_size
        inner.this.disown()  # the index below frees both
        turned = faiss.PCAMatrix(bench.photos.shape[1], bits, 0, True)
        turned.this.disown()
        index = faiss.IndexPreTransform(turned, inner)
        index.own_fields = True
        return index, size

    return make


def hnsw(bench: HashingBench) -> tuple[faiss.Index, float]:
    """Return HNSW over the float descriptors, 32 links, 256 candidates at search."""
    dim, links = bench.photos.shape[1], 32
    index = faiss.IndexHNSWFlat(dim, links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = 256
    return index, 4 * dim + 4 * 2 * links


def exact(bench: HashingBench) -> tuple[faiss.Index, float]:
    """Return exact search over the float descriptors."""
    dim = bench.photos.shape[1]
    return faiss.IndexFlatIP(dim), 4 * dim


def recall_at_precision(
    values: np.ndarray, relevant: np.ndarray, counted: np.ndarray, clusters: np.ndarray, seed: int
) -> tuple[float, float, float]:
    """Return the greatest recall of true pairs at a precision of :data:`PRECISION`, and its 95 % interval.

    Clusters of queries are drawn anew, and the threshold with them.

    Args:
        values: float [Q, N], distances or ratios, infinite where there is none.
        relevant: bool [Q, N], the true pairs.
        counted: bool [Q, N], the pairs that are no junk.
        clusters: int64 [Q].
        seed: Of the draws.
    """
    counted = counted & np.isfinite(values)
    true = counted & relevant
    levels = np.unique(values[true])
    if not len(levels):
        return 0.0, 0.0, 0.0
    names, cluster = np.unique(clusters, return_inverse=True)
    hits, falses = (
        np.cumsum(_histogram(values, pairs, levels, cluster, len(names)), axis=1)
        for pairs in (true, counted & ~relevant)
    )
    total = np.bincount(cluster, weights=relevant.sum(axis=1), minlength=len(names))

    def recall(weights: np.ndarray) -> np.ndarray:
        found, wrong = weights @ hits, weights @ falses
        good = found >= PRECISION * (found + wrong)
        return np.where(good, found, 0).max(axis=1) / (weights @ total)

    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS).astype(float)
    low, high = np.quantile(recall(drawn), [0.025, 0.975])
    return float(recall(np.ones((1, len(names))))[0]), float(low), float(high)


def _histogram(
    values: np.ndarray, pairs: np.ndarray, levels: np.ndarray, cluster: np.ndarray, clusters: int
) -> np.ndarray:
    """Count pairs by cluster and by the first of ``levels`` that reaches them, float [C, L]."""
    query, image = np.nonzero(pairs)
    level = np.searchsorted(levels, values[query, image])
    inside = level < len(levels)
    flat = cluster[query[inside]] * len(levels) + level[inside]
    return np.bincount(flat, minlength=clusters * len(levels)).reshape(clusters, len(levels)).astype(float)


def over_nearest_other(distances: np.ndarray) -> np.ndarray:
    """Return distances [Q, N], each over that of the nearest other photo of its query."""
    first, second = np.partition(distances, 1, axis=1)[:, :2].T[..., None]
    return distance_ratios(distances, np.where(distances <= first, second, first))


def row(answer: Answer, field: Field, run: Run) -> dict[str, Any]:
    """Return one line of the table."""
    report: Report = evaluate(
        rank(Matrix(answer.distances), field.task, k=NEIGHBOURS, doing=answer.name),
        field.task,
        ties="expected",
        seed=run.seed,
    )
    pairs = field.relevant, field.counted
    recall = recall_at_precision(answer.distances, *pairs, report.clusters, run.seed)
    ratios = over_nearest_other(answer.distances)
    by_ratio = recall_at_precision(ratios, *pairs, report.clusters, run.seed)
    left = np.where(field.relevant, np.inf, answer.distances)  # without the photos that are sought
    with_strangers = recall_at_precision(
        np.concatenate([ratios, over_nearest_other(left)]),
        np.concatenate([field.relevant, np.zeros_like(field.relevant)]),
        np.tile(field.counted, (2, 1)),
        np.tile(report.clusters, 2),
        run.seed,
    )
    low, high = report.intervals["mAP"]
    return {
        "task": field.task.name,
        "method": answer.name,
        "bytes": round(answer.size),
        "mAP": report.means["mAP"],
        "mAP_low": low,
        "mAP_high": high,
        "recall@1": report.means["recall@1"],
        **dict(zip(("recall_at_precision", "recall_low", "recall_high"), recall, strict=True)),
        **dict(zip(("ratio_recall", "ratio_low", "ratio_high"), by_ratio, strict=True)),
        **dict(zip(("strangers_recall", "strangers_low", "strangers_high"), with_strangers, strict=True)),
        "microseconds": answer.microseconds,
        "queries": report.counts["queries"],
        "clusters": report.counts["clusters"],
    }


def learned(run: Run, sscd: bool) -> Iterator[tuple[str, Rival]]:
    """Yield the rivals that start from the descriptor of the run."""
    what = "SSCD" if sscd else "float"
    yield f"{what}, exact", faiss_index(f"{what}, exact", exact)
    yield f"{what}, HNSW", faiss_index(f"{what}, HNSW (faiss)", hnsw)
    if sscd:
        return
    bits = run.bits
    yield "RaBitQ", faiss_index(f"RaBitQ of {bits} components (faiss)", rabitq(bits))
    yield "faiss ITQ", faiss_itq(bits)
    yield "Hashing-Baseline", by_niphash(f"Hashing-Baseline {bits}", ["hashing=pca_hash"])
    for method in ("lsh", "itq", "rbm_stack", "niphash"):
        yield method, by_niphash(f"{method} {bits} (ours)", [f"hashing={method}"])
    for method in ("itq", "niphash"):
        label = f"{method} {bits}, asymmetric (ours)"
        yield method, by_niphash(label, [f"hashing={method}"], "asymmetric")
    yield "niphash 256", by_niphash("niphash 256 (ours)", ["hashing=niphash", "bits=256"])


def compare(
    run: Run, rivals: Sequence[tuple[str, Rival]], photos: int, queries: int | None
) -> Iterator[dict[str, Any]]:
    """Yield a line for each rival and task; what a rival cannot do is said and left out."""
    bench = hashing_bench(run, queries=queries)
    if bench.transductive:
        print("transductive: tested photos are among the fit photos; give others by fit.root=<folder>")
    fields = [Field(bench), Field(copies(bench, photos, run.seed))]
    for name, rival in rivals:
        try:
            for field in fields:
                yield row(rival(field), field, run)
        except (InputError, RuntimeError) as error:
            print(f"{name} is left out: {error}")


def available(only: Sequence[str]) -> Iterator[tuple[str, Rival]]:
    """Yield the pixel hashes that are installed, and say of the others that they are not."""
    for name, load in pixel_rivals():
        if not any(part in name for part in only):
            continue
        try:
            yield name, by_pixels(name, load())
        except ImportError as error:
            print(f"{name} is left out: {error.name} is not installed (pip install niphash[rivals])")
    print("imagededup's CNN is left out: it downloads its weights")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the lines as Markdown, a table a task, the best recall first."""
    parts = []
    for task in dict.fromkeys(one["task"] for one in rows):
        own = [one for one in rows if one["task"] == task]
        head = f"{task}: {own[0]['queries']} queries, {own[0]['clusters']} clusters"
        lines = [
            f"| {one['method']} | {one['bytes']} | {_with_interval(one, 'mAP', 'mAP')} "
            f"| {one['recall@1']:.3f} | {_with_interval(one, 'recall_at_precision', 'recall')} | "
            f"{_with_interval(one, 'ratio_recall', 'ratio')} | "
            f"{_with_interval(one, 'strangers_recall', 'strangers')} | {one['microseconds']:.1f} |"
            for one in sorted(own, key=lambda one: -one["recall_at_precision"])
        ]
        title = (
            "| method | bytes | mAP | recall@1 | recall at precision 0.99 | by ratio "
            "| by ratio, half strangers | µs a query |"
        )
        parts.append("\n".join([head, "", title, "| --- " * 8 + "|", *lines]))
    return "\n\n".join(parts) + "\n"


def _with_interval(one: dict[str, Any], value: str, ends: str) -> str:
    return f"{one[value]:.3f} [{one[f'{ends}_low']:.3f}, {one[f'{ends}_high']:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="sample", help="data set, a choice of conf/data")
    parser.add_argument("--photos", type=int, default=100, help="database photos of which copies are made")
    parser.add_argument("--queries", type=int, help="at most so many queries of the data set's own task")
    parser.add_argument("--sscd", metavar="FILE", help="SSCD as an ONNX file: also its float descriptor")
    parser.add_argument(
        "--only", metavar="NAMES", help="only rivals whose name holds one of these: niphash,itq"
    )
    parser.add_argument("--out", type=Path, default=Path("rivals"), help="folder of rivals.csv, rivals.md")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides: descriptor, data.root, fit.root, seed")
    options = parser.parse_intermixed_args()
    faiss.omp_set_num_threads(1)
    only = [""] if options.only is None else options.only.split(",")
    words = [f"data={options.data}", *options.overrides]
    run = assemble(compose(words), options.out)
    with shared_fits():
        ours = [
            (name, rival) for name, rival in learned(run, sscd=False) if any(part in name for part in only)
        ]
        rows = list(compare(run, [*available(only), *ours], options.photos, options.queries))
        if options.sscd is None:
            print("SSCD is left out: give its ONNX file by --sscd")
        else:
            words += ["backbone=onnx", f"backbone.weights={options.sscd}", "pooling=mean"]
            run = assemble(compose(words), options.out)
            rows += compare(run, list(learned(run, sscd=True)), options.photos, options.queries)
    if not rows:
        raise SystemExit(f"--only {options.only}: no rival has such a name")
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "rivals.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (options.out / "rivals.md").write_text(table(rows), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
