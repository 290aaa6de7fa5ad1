"""Published numbers, drawn beside ours and never mixed with them."""

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("paper_results.csv")


class Published(NamedTuple):
    """One published number.

    ``read_off`` is true where it was read off a figure (within about 0.001) and not printed in a table.
    """

    paper: str
    read_off: bool
    dataset: str
    metric: str
    descriptor: str
    method: str
    bits: int | None
    value: float


def published_name(dataset: str, distractors: int = 0) -> str:
    """Return what ``dataset`` with so many distractors is called in the file, ``""`` for what is not in it.

    Numbers with distractors were published with a million only. Those of ``smvs_graphics`` belong to the
    edition of MPEG CDVS, other pictures and other lists than the SMVS that is offered for download: they
    stand beside nothing here.
    """
    if dataset.startswith("smvs"):
        return ""
    name = dataset.replace("-", "_")
    if distractors == 0:
        return name
    return f"{name}+1m" if 900_000 <= distractors <= 1_100_000 else ""


@cache
def published() -> tuple[Published, ...]:
    """Return every number of ``paper_results.csv``."""
    with FILE.open(newline="") as file:
        return tuple(
            Published(
                paper=row["paper"],
                read_off=row["kind"] == "D",
                dataset=row["dataset"],
                metric=row["metric"],
                descriptor=row["descriptor"],
                method=row["method"],
                bits=None if row["bits"] == "float" else int(row["bits"]),
                value=float(row["value"]),
            )
            for row in csv.DictReader(file)
        )


def find_published(**wanted: object) -> list[Published]:
    """Return the numbers whose fields equal all of ``wanted`` (``dataset="holidays", method="itq"``)."""
    return [number for number in published() if all(getattr(number, k) == v for k, v in wanted.items())]
