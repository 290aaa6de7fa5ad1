"""Matching photos as people know them: pairs from half the objects of a data set, tested on the others."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from niphash.data.task import Relevance, RetrievalTask
from niphash.errors import InputError
from niphash.evaluation.intervals import query_clusters
from niphash.studies.hashed import HashingBench


def with_true_pairs(bench: HashingBench, seed: int) -> HashingBench:
    """Return ``bench`` with labelled pairs in place of views, and with the objects that they show left out.

    Half of the clusters of queries (objects, products, landmarks), drawn at random, give their photos and the
    pairs of them that match to methods that need pairs; beside the fit photos, which keep no pair. Queries of
    the other half search a database without those photos.

    Args:
        bench: What is divided.
        seed: Of the draw.

    Raises:
        InputError: fewer than two clusters of queries, or none of one half has two readable photos.
    """
    task = bench.bench.task
    clusters = query_clusters(task)
    names = np.random.default_rng(seed).permutation(np.unique(clusters))
    if len(names) < 2:
        raise InputError(
            f"{task.name}: true pairs need queries of two things at least, to keep one for the test"
        )
    learned = np.isin(clusters, names[: len(names) // 2])
    rows, pairs = _photos_and_pairs(bench, np.flatnonzero(learned))
    if not len(pairs):
        raise InputError(f"{task.name}: no two readable photos of one thing, so there are no true pairs")
    kept = np.setdiff1d(np.arange(len(task.database)), _photos_of(task, np.flatnonzero(learned)))
    asked = np.flatnonzero(~learned)
    return replace(
        bench,
        bench=replace(bench.bench, task=with_database(task.with_queries(asked.tolist()), kept)),
        queries=bench.queries[asked],
        database=bench.database[kept],
        with_views=np.concatenate([bench.photos, rows]),
        pairs=pairs + len(bench.photos),
        fitted_on=f"{bench.fitted_on}, and {len(pairs)} true pairs of {len(names) // 2} other objects",
    )


def with_database(task: RetrievalTask, kept: np.ndarray) -> RetrievalTask:
    """Return the same task with the database images ``kept`` (int64, sorted) only."""
    number = np.full(len(task.database), -1)
    number[kept] = np.arange(len(kept))

    def among(images: np.ndarray) -> np.ndarray:
        found = number[images]
        return found[found >= 0]

    def numbered(truth: Sequence[Relevance]) -> tuple[Relevance, ...]:
        return tuple(Relevance(among(one.relevant), among(one.junk)) for one in truth)

    return replace(
        task,
        database=task.database.subset(kept.tolist()),
        relevance=numbered(task.relevance),
        variants={name: numbered(truth) for name, truth in task.variants.items()},
    )


def _photos_of(task: RetrievalTask, queries: np.ndarray) -> np.ndarray:
    """Return the database images that are relevant to ``queries`` int64 [Q], or are those photos."""
    own = task.own_photos()[queries]
    return np.unique(np.concatenate([own[own >= 0], *(task.relevance[q].relevant for q in queries)]))


def _photos_and_pairs(bench: HashingBench, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the readable photos of ``queries`` int64 [Q], float32 [M, D], and pairs int64 [P, 2] of them."""
    task = bench.bench.task
    photos = _photos_of(task, queries)
    photos = photos[bench.readable[photos]]
    number = {int(photo): row for row, photo in enumerate(photos)}
    own = task.own_photos()
    # phone photos of a data set of reference pictures
    outside = [q for q in queries.tolist() if own[q] < 0 and bench.readable_queries[q]]
    row_of = {q: len(photos) + i for i, q in enumerate(outside)}
    pairs = {
        tuple(sorted((row, number[match])))
        for q in queries.tolist()
        for row in [row_of.get(q, number.get(int(own[q]), -1))]
        for match in task.relevance[q].relevant.tolist()
        if row >= 0 and match in number and number[match] != row
    }
    rows = np.concatenate([bench.database[photos], bench.queries[outside]])
    return rows, np.array(sorted(pairs), np.int64).reshape(-1, 2)
