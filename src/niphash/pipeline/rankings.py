"""Ranked lists of a model over a data set, to hand to another tool or to keep."""

from typing import Literal

import numpy as np

from niphash.data.ground_truth.ranked_lists import RankedList, listed_names
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.store.store import DescriptorStore, describe_to_store
from niphash.errors import InputError
from niphash.model import Model
from niphash.pipeline.run import Run
from niphash.search.comparison import DistanceChoice, choose_distance, code_distances, spread
from niphash.search.exact import search_descriptors, search_exhaustively


def ranked_lists(
    run: Run,
    model: Model,
    k: int | None,
    by: DistanceChoice | Literal["descriptor"],
    report: DescribeReport,
) -> list[RankedList]:
    """Return for each query of the run's first data set its nearest database images, nearest first.

    Args:
        run: The data set, and where described photos are kept.
        model: What describes and hashes.
        k: So many images a query; all for ``None``.
        by: A distance between codes, or ``"descriptor"``: the cosine of float descriptors.
        report: Unreadable photos are entered there; they retrieve nothing and are not retrieved, like photos
            without any local descriptor.

    Raises:
        InputError: the model makes no codes, or they know no such distance.
    """
    if by != "descriptor":
        if not model.bits:
            raise InputError("this model makes no codes (hashing=none); rank by the descriptor with --float")
        choose_distance(model.hasher, by)
    target = run.targets[0]
    target.data.prepare()
    task = target.task()
    store = DescriptorStore.of(model.describer, run.descriptors_dir)
    database, queries = (
        np.asarray(describe_to_store(model.describer, images, store, report).comparable())
        for images in (task.database, task.queries)
    )
    found = _nearest(model, queries, database, k or len(task.database), by)
    names = listed_names(task)
    return [
        RankedList(names[query], tuple(names[task.database.ids[i]] for i in row if i >= 0))
        for query, row in zip(task.queries.ids, found.tolist(), strict=True)
    ]


def _nearest(
    model: Model,
    queries: np.ndarray,
    database: np.ndarray,
    k: int,
    by: DistanceChoice | Literal["descriptor"],
) -> np.ndarray:
    """Return int64 [Q, k], database numbers nearest first, -1 where there is none."""
    if by == "descriptor":
        return search_descriptors(queries, database, k)[1]
    readable = np.isfinite(database[:, 0])
    codes = spread(model.hasher.encode(database[readable]), readable)
    return search_exhaustively(code_distances(model.hasher, queries, codes, readable, by), k)[1]
