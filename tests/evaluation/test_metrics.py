"""torchmetrics in one process and in two."""

import os
import socket
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from niphash.data.task import Relevance
from niphash.evaluation import functional
from niphash.evaluation.evaluator import Report, evaluate
from niphash.evaluation.functional import tie_groups
from niphash.evaluation.intervals import query_clusters, query_photos
from niphash.evaluation.metrics import (
    QueryClusters,
    QueryMetric,
    Score,
)
from niphash.search.ranking import Ranking, rank_codes

QUERIES, IMAGES = 11, 70
SHARES = (np.array([0, 2, 4, 6, 8, 10]), np.array([1, 3, 5, 7, 9, 0]))  # a sampler repeats query 0


def search(numbers: np.ndarray) -> tuple[Ranking, list[Relevance]]:
    """Rank the queries of these numbers; query 3 has nothing relevant."""
    rng = np.random.default_rng(0)
    queries, database = (rng.integers(0, 16, (n, 1), np.uint8) for n in (QUERIES, IMAGES))
    kinds = rng.choice(3, (QUERIES, IMAGES), p=[0.7, 0.2, 0.1])
    kinds[3] = 0
    kinds[:, 10:][kinds[:, 10:] == 1] = 0  # few relevant images, so that not all queries share one
    truth = [Relevance(np.flatnonzero(k == 1), np.flatnonzero(k == 2)) for k in kinds[numbers]]
    return rank_codes(queries[numbers], database, truth), truth


SCORES: list[Score] = [
    functional.average_precision,
    partial(functional.average_precision, convention="trapezoid"),
    partial(functional.recall_at, k=5),
    partial(functional.hit_rate_at, k=5),
    partial(functional.precision_at, k=5),
    partial(functional.revisited_precision_at, k=5),
    partial(functional.recall_at, k=4),
]


def metrics() -> list[QueryMetric]:
    return [QueryMetric(score) for score in SCORES]


def test_metrics_are_means_of_the_functions():
    ranking, truth = search(np.arange(QUERIES))
    groups = tie_groups(ranking, truth)
    for metric, score in zip(metrics(), SCORES, strict=True):
        metric.update(groups, np.arange(QUERIES))
        np.testing.assert_array_equal(metric.per_query(), score(groups))
        assert np.isnan(score(groups)[3])
        assert metric.compute().item() == pytest.approx(np.nanmean(score(groups)), abs=1e-14)


def test_clusters_of_batches_are_those_of_all_queries():
    _, truth = search(np.arange(QUERIES))
    sparse = [Relevance(one.relevant[:2]) for one in truth]
    clusters = QueryClusters()
    for numbers in SHARES:
        clusters.update(numbers, query_photos([sparse[i] for i in numbers]))
    expected = query_clusters(sparse)
    assert 1 < expected.max() < QUERIES - 1
    assert clusters.compute().tolist() == expected.tolist()


def test_batches_in_any_order_and_twice_are_one():
    whole, parts = metrics(), metrics()
    for numbers in (np.arange(QUERIES), SHARES[1], SHARES[0]):
        ranking, truth = search(numbers)
        for metric in whole if len(numbers) == QUERIES else parts:
            metric.update(tie_groups(ranking, truth), numbers)
    for one, other in zip(whole, parts, strict=True):
        assert torch.equal(one.compute(), other.compute())
        np.testing.assert_array_equal(one.per_query(), other.per_query())


def in_one_of_two_processes(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    ranking, truth = search(SHARES[rank])
    report = evaluate(ranking, truth, queries=SHARES[rank])
    values = []
    for metric in metrics():
        metric.update(tie_groups(ranking, truth), SHARES[rank])
        values += [metric.per_query(), metric.compute()[None]]
    assert metrics()[0].compute().isnan()  # processes without any query synchronise too
    np.savez(Path(folder) / f"{rank}.npz", values=np.concatenate(values), report=flat(report))
    dist.destroy_process_group()


def flat(report: Report) -> np.ndarray:
    values = [*report.means.values(), *report.counts.values(), *np.ravel([*report.intervals.values()])]
    return np.concatenate([values, report.clusters, *report.per_query.values()])


def test_two_processes_agree_with_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(in_one_of_two_processes, (port, str(tmp_path)), nprocs=2)
    ranking, truth = search(np.arange(QUERIES))
    expected = []
    for metric in metrics():
        metric.update(tie_groups(ranking, truth), np.arange(QUERIES))
        expected += [metric.per_query(), metric.compute()[None]]
    for rank in range(2):
        found = np.load(tmp_path / f"{rank}.npz")
        np.testing.assert_array_equal(found["values"], np.concatenate(expected))
        np.testing.assert_array_equal(found["report"], flat(evaluate(ranking, truth)))
