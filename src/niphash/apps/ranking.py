"""``niphash describe`` and ``niphash rank``: a trained model over a folder, or over a data set."""

import sys
from pathlib import Path
from typing import Literal

import numpy as np

from niphash.collection.nearness import Reach, near_descriptors
from niphash.config import compose
from niphash.data.ground_truth.ranked_lists import RankedList, listed_names, write_holidays_results
from niphash.data.images import ImageSet
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.store.store import DescriptorStore, describe_to_store
from niphash.errors import InputError
from niphash.model import Model, load
from niphash.pipeline.assembly import build_data, build_task, descriptors_dir
from niphash.search import FlatIndex
from niphash.search.comparison import DistanceChoice, choose_distance
from niphash.search.exact import search_descriptors


def describe(photos: str, model_folder: str, out: str, dtype: str) -> None:
    """Describe the photos that the store ``out`` does not hold yet."""
    model, images = load(model_folder), ImageSet.from_folder(photos)
    report = DescribeReport()
    described = describe_to_store(
        model.describer, images, DescriptorStore.of(model.describer, out, dtype), report
    )
    print(
        f"{len(described) - len(report.skipped)} photos in {out}, {model.describer.dim} dimensions, {dtype}"
    )
    _print_skipped(report)


def rank(
    model_folder: str, data: list[str], k: int | None, by: DistanceChoice | Literal["descriptor"], out: str
) -> None:
    """Write for each query of a data set the database images, nearest first, in the Holidays format."""
    model = load(model_folder)
    if by != "descriptor":
        choose_distance(model.hasher, by if _bits(model) else "auto")
    cfg = compose([f"data={data[0]}", *data[1:]], "evaluate")
    data_set = build_data(cfg.data)
    data_set.prepare()
    task = build_task(data_set, cfg.data, cfg)
    report = DescribeReport()
    store = DescriptorStore.of(model.describer, descriptors_dir(cfg))
    database, queries = (
        describe_to_store(model.describer, images, store, report) for images in (task.database, task.queries)
    )
    found = _nearest(model, np.asarray(queries), np.asarray(database), k or len(task.database), by)
    names = listed_names(task)
    lists = [
        RankedList(names[query], tuple(names[task.database.ids[i]] for i in row if i >= 0))
        for query, row in zip(task.queries.ids, found.tolist(), strict=True)
    ]
    write_holidays_results(Path(out), lists)
    print(f"{len(lists)} ranked lists in {out}")
    _print_skipped(report)


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
    readable, answered = (np.flatnonzero(np.isfinite(rows[:, 0])) for rows in (database, queries))
    codes = FlatIndex(model.bits)
    codes.add(model.hasher.encode(database[readable]), readable)
    found = np.full((len(queries), k), -1, np.int64)
    nearest = near_descriptors(codes, model.hasher, queries[answered], Reach(k, distance=by))
    for query, near in zip(answered, nearest, strict=True):
        found[query, : len(near.ids)] = near.ids
    return found


def _bits(model: Model) -> int:
    if not model.bits:
        raise InputError("this model makes no codes (hashing=none); train one with hashing=rbm_stack")
    return model.bits


def _print_skipped(report: DescribeReport) -> None:
    for skipped in report.skipped:
        print(f"skipped: {skipped.image_id} ({skipped.reason})", file=sys.stderr)
