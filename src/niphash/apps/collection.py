"""``niphash describe``, ``index``, ``search``, ``rank``: a trained model over a collection of photos."""

import json
import shutil
import sys
from pathlib import Path
from typing import Literal

import numpy as np

from niphash.config import compose
from niphash.data.ground_truth.ranked_lists import write_holidays_results
from niphash.data.images import ImageSet, as_image_set
from niphash.data.names import native_name, portable_name
from niphash.data.writing import refuse_links
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.store.store import DescriptorStore, describe_to_store
from niphash.errors import InputError
from niphash.model import Model, load
from niphash.pipeline.rankings import ranked_lists
from niphash.pipeline.run import assemble
from niphash.plain import printable, read_json
from niphash.search.comparison import DistanceChoice, choose_distance, code_distances
from niphash.search.exact import search_exhaustively
from niphash.search.hamming import HammingIndex

CODES, PHOTOS, MODEL = "codes.safetensors", "photos.json", "model"


def describe(photos: str, model_folder: str, out: str, dtype: str) -> None:
    """Describe the photos that the store ``out`` does not hold yet."""
    refuse_links(Path(out))
    model, images = load(model_folder), ImageSet.from_folder(photos)
    report = DescribeReport()
    described = describe_to_store(
        model.describer, images, DescriptorStore.of(model.describer, out, dtype), report
    )
    print(
        f"{len(described) - len(report.skipped)} photos in {out}, {model.describer.dim} dimensions, {dtype}"
    )
    print(report.summary())
    _print_skipped(report)


def index(photos: str, model_folder: str, out: str) -> None:
    """Hash the photos into the folder ``out``: codes, names, and a copy of the model."""
    folder = Path(out)
    if (folder / CODES).exists():
        raise InputError(f"{folder}: holds an index already; name a new folder with --out")
    refuse_links(folder)
    model, images = load(model_folder), ImageSet.from_folder(photos)
    report = DescribeReport()
    store = DescriptorStore.of(model.describer, Path(compose().paths.data_dir) / "descriptors")
    described = describe_to_store(model.describer, images, store, report)
    rows = np.flatnonzero(described.positions >= 0)
    if not len(rows):
        raise InputError(f"{photos}: none of the {len(images)} photos can be read")
    codes = HammingIndex(_bits(model))
    for start in range(0, len(rows), 4096):
        part = rows[start : start + 4096]
        codes.add(model.hasher.encode(described[part]), part)
    shutil.copytree(model_folder, folder / MODEL, dirs_exist_ok=True)
    names = [portable_name(name) for name in (str(Path(photos).resolve()), *images.ids)]
    (folder / PHOTOS).write_text(json.dumps({"root": names[0], "photos": names[1:]}) + "\n")
    codes.save(folder / CODES)
    print(f"{len(codes)} photos of {photos} in {folder}, {codes.bits} bits each")
    print(report.summary())
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
            print(f"{bits:{form}}  {printable(portable_name(str(root / names[number])))}")


def rank(
    model_folder: str, data: list[str], k: int | None, by: DistanceChoice | Literal["descriptor"], out: str
) -> None:
    """Write for each query of a data set the database images, nearest first, in the Holidays format."""
    report = DescribeReport()
    run = assemble(compose([f"data={data[0]}", *data[1:]], "evaluate"), Path(out).parent)
    lists = ranked_lists(run, load(model_folder), k, by, report)
    write_holidays_results(Path(out), lists)
    print(f"{len(lists)} ranked lists in {out}")
    _print_skipped(report)


def _nearest_codes(
    model: Model, queries: np.ndarray, index: HammingIndex, k: int, distance: DistanceChoice
) -> tuple[np.ndarray, np.ndarray]:
    """Return distances [Q, k] and ids int64 [Q, k] of the nearest codes; -1 where there are fewer."""
    if choose_distance(model.hasher, distance) == "hamming":
        return index.search(model.hasher.encode(queries), k)
    at, rows = search_exhaustively(code_distances(model.hasher, queries, index.codes, distance=distance), k)
    return at, np.where(rows < 0, -1, index.ids[rows])


def _bits(model: Model) -> int:
    if not model.bits:
        raise InputError("this model makes no codes (hashing=none); train one with hashing=rbm_stack")
    return model.bits


def _read_index(folder: Path) -> tuple[HammingIndex, list[str], Path]:
    codes = HammingIndex.load(folder / CODES)
    path = folder / PHOTOS
    content = read_json(path, "make the index again with niphash index", largest_bytes=2**30)
    names, root = content.get("photos"), content.get("root")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or not isinstance(root, str):
        raise InputError(f"{path}: names no photos; make the index again with niphash index")
    if len(codes) and int(codes.ids.max()) >= len(names):
        raise InputError(f"{path}: names {len(names)} photos, fewer than {folder / CODES} numbers")
    return codes, [native_name(name) for name in names], Path(native_name(root))


def _print_skipped(report: DescribeReport) -> None:
    for skipped in report.skipped:
        print(f"skipped: {printable(portable_name(skipped.image_id))} ({skipped.reason})", file=sys.stderr)
