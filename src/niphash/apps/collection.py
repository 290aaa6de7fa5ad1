"""``niphash describe``, ``index``, ``search``, ``rank``: a trained model over a collection of photos."""

import json
import shutil
import sys
from pathlib import Path
from typing import Literal

import numpy as np

from niphash.config import compose
from niphash.data.ground_truth.holidays import RankedList, write_holidays_results
from niphash.data.images import ImageSet, as_image_set
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.store import DescriptorStore, describe_to_store
from niphash.errors import InputError
from niphash.hashing.signs import SignHasher
from niphash.model import Model, load
from niphash.pipeline.assembly import build_data, build_task, descriptors_dir
from niphash.pipeline.ranked_lists import listed_names
from niphash.search import FlatIndex, Index
from niphash.search.codes import DistanceChoice, choose_distance, code_distances
from niphash.search.exact import search_descriptors, search_exhaustively

CODES, PHOTOS, MODEL = "codes", "photos.json", "model"


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


def index(photos: str, model_folder: str, out: str) -> None:
    """Hash the photos into the folder ``out``: codes, names, and a copy of the model."""
    folder = Path(out)
    if (folder / CODES).exists():
        raise InputError(f"{folder}: holds an index already; name a new folder with --out")
    model, images = load(model_folder), ImageSet.from_folder(photos)
    report = DescribeReport()
    store = DescriptorStore.of(model.describer, descriptors_dir(compose()))
    described = describe_to_store(model.describer, images, store, report)
    rows = np.flatnonzero(described.positions >= 0)
    if not len(rows):
        raise InputError(f"{photos}: none of the {len(images)} photos can be read")
    codes = FlatIndex(_bits(model))
    for start in range(0, len(rows), 4096):
        part = rows[start : start + 4096]
        codes.add(model.hasher.encode(described[part]), part)
    shutil.copytree(model_folder, folder / MODEL, dirs_exist_ok=True)
    root = Path(photos).resolve()
    (folder / PHOTOS).write_text(json.dumps({"root": str(root), "photos": list(images.ids)}) + "\n")
    codes.save(folder / CODES)
    print(f"{len(codes)} photos of {photos} in {folder}, {codes.bits} bits each")
    _print_skipped(report)


def search(index_folder: str, photo: str, k: int, distance: DistanceChoice) -> None:
    """Print the nearest photos of the index: distance in bits and path, nearest first."""
    folder = Path(index_folder)
    codes, names, root = _read_index(folder)
    model = load(folder / MODEL)
    if codes.bits != model.bits:
        raise InputError(f"{folder}: codes of {codes.bits} bits, model of {model.bits}; make the index again")
    at, ids = _nearest_codes(model, model.describe(as_image_set(photo)), codes, k, distance)
    form = "4d" if np.issubdtype(at.dtype, np.integer) else "6.2f"
    for bits, number in zip(at[0].tolist(), ids[0].tolist(), strict=True):
        if number >= 0:
            print(f"{bits:{form}}  {root / names[number]}")


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
    found[answered] = _nearest_codes(model, queries[answered], codes, k, by)[1]
    return found


def _nearest_codes(
    model: Model, queries: np.ndarray, index: Index, k: int, distance: DistanceChoice
) -> tuple[np.ndarray, np.ndarray]:
    """Return distances [Q, k] and ids int64 [Q, k] of the nearest codes; -1 where there are fewer."""
    if choose_distance(model.hasher, distance) == "hamming":
        return index.search(model.hasher.encode(queries), k)
    if isinstance(model.hasher, SignHasher):
        return index.search(model.hasher.project(queries), k, "asymmetric")
    ids = index.ids
    codes = index.get(ids)
    at, rows = search_exhaustively(code_distances(model.hasher, queries, codes, distance=distance), k)
    return at, np.where(rows < 0, -1, ids[rows])


def _bits(model: Model) -> int:
    if not model.bits:
        raise InputError("this model makes no codes (hashing=none); train one with hashing=rbm_stack")
    return model.bits


def _read_index(folder: Path) -> tuple[Index, list[str], Path]:
    codes = FlatIndex.open(folder / CODES)
    path = folder / PHOTOS
    try:
        content = json.loads(path.read_text())
        names, root = [str(name) for name in content["photos"]], Path(content["root"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: missing or damaged; make the index again with niphash index") from error
    if len(codes) and int(codes.ids.max()) >= len(names):
        raise InputError(f"{path}: names {len(names)} photos, fewer than {folder / CODES} numbers")
    return codes, names, root


def _print_skipped(report: DescribeReport) -> None:
    for skipped in report.skipped:
        print(f"skipped: {skipped.image_id} ({skipped.reason})", file=sys.stderr)
