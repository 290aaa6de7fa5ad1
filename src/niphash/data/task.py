"""Retrieval tasks: a database, queries, and which images are relevant to which query."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from niphash.data.images import ImageSet

AveragePrecision = Literal["finite", "trapezoid"]


@dataclass(frozen=True)
class Relevance:
    """The ground truth of one query: indices into the database, int64, sorted, without repeats.

    ``junk`` images are taken out of the ranking before ranks are counted; an index in both is junk (the
    readers of ground truth refuse files that say so of a photo).
    """

    relevant: np.ndarray
    junk: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        junk = np.unique(np.asarray(self.junk, np.int64))
        relevant = np.setdiff1d(np.asarray(self.relevant, np.int64), junk)
        object.__setattr__(self, "junk", junk)
        object.__setattr__(self, "relevant", relevant)


@dataclass(frozen=True)
class RetrievalTask:
    """Queries to be answered from a database, with their ground truth.

    Attributes:
        name: The data set's name, for instance ``"ukbench"``.
        protocol: One sentence: what is a query, what is relevant, what is junk, which AP.
        database: The images that are searched.
        queries: The images (with their boxes) that are searched for.
        relevance: One a query, in the order of ``queries``.
        variants: Further ground truths of the same queries (``{"easy": ..., "hard": ...}``), if any.
        average_precision: The convention of record for AP.
        subset: Number of database images when this is a part of the official data set, else ``None``.
        notes: Sentences for the report (missing files, incomplete groups left out, ...).
    """

    name: str
    protocol: str
    database: ImageSet
    queries: ImageSet
    relevance: tuple[Relevance, ...]
    variants: dict[str, tuple[Relevance, ...]] = field(default_factory=dict)
    average_precision: AveragePrecision = "finite"
    subset: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for relevance in (self.relevance, *self.variants.values()):
            if len(relevance) != len(self.queries):
                raise ValueError(f"{len(relevance)} ground truths for {len(self.queries)} queries")
            if any(
                r.relevant.size and not 0 <= r.relevant[0] <= r.relevant[-1] < len(self.database)
                for r in relevance
            ):
                raise ValueError("a relevant index lies outside the database")

    def own_photos(self) -> np.ndarray:
        """Return which database image each query is, whole or by its box, int64 [Q]; -1 for none."""
        # Paths are equal when they name one file; pictures in memory are one when they are the same object.
        numbers = {_identity(source): i for i, source in enumerate(self.database.sources)}
        return np.array([numbers.get(_identity(source), -1) for source in self.queries.sources], np.int64)

    def with_queries(self, rows: Iterable[int]) -> "RetrievalTask":
        """Return the same task with the queries at ``rows`` only, in that order."""
        rows = list(rows)
        return replace(
            self,
            queries=self.queries.subset(rows),
            relevance=tuple(self.relevance[i] for i in rows),
            variants={name: tuple(truth[i] for i in rows) for name, truth in self.variants.items()},
        )


def empty_query_notes(
    relevance: Sequence[Relevance], variants: Mapping[str, Sequence[Relevance]] | None = None
) -> tuple[str, ...]:
    """Return a sentence for the report on queries that have no relevant photo, and none where all have.

    Args:
        relevance: The main ground truth.
        variants: The others by name, when there are any.
    """
    truths = {"": relevance} if not variants else {f"{name}: ": truth for name, truth in variants.items()}
    counts = {name: sum(not len(query.relevant) for query in truth) for name, truth in truths.items()}
    return tuple(
        f"{name}{count} {'query' if count == 1 else 'queries'} without relevant photos, not counted"
        for name, count in counts.items()
        if count
    )


def _identity(source: Path | Image.Image) -> Path | int:
    return source if isinstance(source, Path) else id(source)
