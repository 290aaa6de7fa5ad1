"""``niphash describe`` and ``niphash rank``: a trained model over a folder, or over a data set."""

import sys
from pathlib import Path
from typing import Literal

from niphash.config import compose
from niphash.data.ground_truth.ranked_lists import write_holidays_results
from niphash.data.images import ImageSet
from niphash.data.names import portable_name
from niphash.data.writing import check_file, check_folder, refuse_links
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.store.store import DescriptorStore, describe_to_store
from niphash.errors import InputError, writing
from niphash.model import load
from niphash.pipeline.rankings import ranked_lists
from niphash.pipeline.run import assemble
from niphash.plain import printable
from niphash.search.comparison import DistanceChoice


def describe(photos: str, model_folder: str, out: str, dtype: str) -> None:
    """Describe the photos that the store ``out`` does not hold yet."""
    check_folder(Path(out), "--out")
    refuse_links(Path(out))
    model, images = load(model_folder), ImageSet.from_folder(photos)
    report = DescribeReport()
    store = DescriptorStore.of(model.describer, out, dtype)
    if store.dtypes - {dtype}:
        held = " and ".join(sorted(store.dtypes))
        raise InputError(f"{out}: holds {held} descriptors; choose --dtype {held}, or name another folder")
    described = describe_to_store(model.describer, images, store, report)
    count = len(described) - len(report.skipped)
    print(f"{count} photos in {out}, {model.describer.dim} dimensions, {dtype}")
    print(report.summary())
    _print_skipped(report)


def rank(
    model_folder: str, data: list[str], k: int | None, by: DistanceChoice | Literal["descriptor"], out: str
) -> None:
    """Write for each query of a data set the database images, nearest first, in the Holidays format."""
    check_file(Path(out), "--out")
    report = DescribeReport()
    run = assemble(compose([f"data={data[0]}", *data[1:]], "evaluate"), Path(out).parent)
    lists = ranked_lists(run, load(model_folder), k, by, report)
    with writing(out):
        write_holidays_results(Path(out), lists)
    print(f"{len(lists)} ranked lists in {out}")
    _print_skipped(report)


def _print_skipped(report: DescribeReport) -> None:
    for skipped in report.skipped:
        print(f"skipped: {printable(portable_name(skipped.image_id))} ({skipped.reason})", file=sys.stderr)
