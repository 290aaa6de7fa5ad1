"""How retrieval falls as the queries alone are changed more and more: what rotation and scale share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from niphash.data.images import View
from niphash.pipeline.pooling import database_pooling
from niphash.studies.measured import Bench, measured, variant


def curve_rows(
    bench: Bench,
    descriptors: Mapping[str, Sequence[str]],
    column: str,
    views: Mapping[float, View],
    database_view: View | None = None,
) -> list[dict[str, Any]]:
    """Return one row for each descriptor and each view of the queries, mAP with its 95 % interval.

    Args:
        bench: Task and fit photos.
        descriptors: Overrides of the configuration by name; ``data.pool_database`` may be among them.
        column: What the keys of ``views`` are, for instance ``"degrees"``.
        views: How the queries are seen.
        database_view: How the database images are seen (where they are not pooled over rotations).

    Raises:
        InputError: an override names nothing; found before any photo is described.
    """
    poolings = [database_pooling(variant(bench.cfg, overrides).data) for overrides in descriptors.values()]
    rows = []
    for (name, overrides), pooling in zip(descriptors.items(), poolings, strict=True):
        describe = bench.describer(overrides)
        if pooling is None:
            copies = [describe(bench.task.database.with_view(database_view))]
        else:
            copies = pooling.describe(bench.task.database, describe)
        for value, view in views.items():
            seen = replace(bench.task, queries=bench.task.queries.with_view(view))
            report = bench.report(describe(seen.queries), *copies, task=seen)
            rows.append({"descriptor": name, column: value, **measured(report, "mAP")})
    return rows


def kept(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[float, float, Mapping[str, Any]]:
    """Return a descriptor's first mAP, the least share of it that is left, and the row where that is."""
    own = [row for row in rows if row["descriptor"] == name]
    worst = min(own, key=lambda row: row["value"])
    first = own[0]["value"]
    return first, worst["value"] / first if first else float("nan"), worst
