"""UKBench: 2550 objects, four photos each; Nister & Stewenius, CVPR 2006."""

import re

import numpy as np

from niphash.data.images import ImageSet
from niphash.data.sets.published import ListedSet, photos_by_stem
from niphash.data.task import Relevance, RetrievalTask
from niphash.errors import InputError

IMAGES = 10_200
VIEWS = 4
_NAME = re.compile(r"ukbench([0-9]{5})", re.IGNORECASE)


class UKBenchData(ListedSet):
    """UKBench in its official layout: ``ukbenchNNNNN.jpg`` in the folder, ``full/`` or ``ukbench/full/``."""

    name = "ukbench"
    expected = (
        "the images ukbench00000.jpg, ukbench00001.jpg, ... (in the folder itself, full/ or ukbench/full/)"
    )

    def photos(self) -> ImageSet:
        """Return every UKBench photo on disk, complete object or not."""
        photos = photos_by_stem(self.root, self.expected, lambda stem: bool(_NAME.fullmatch(stem)))
        if not len(photos):
            raise InputError(f"{self.root}: no UKBench photo in this folder; expected there: {self.expected}")
        return self.spelled(photos, self.named())

    def named(self) -> frozenset[str]:
        """Return the 10 200 official names."""
        return frozenset(f"ukbench{number:05d}" for number in range(IMAGES))

    def task(self, photos: ImageSet | None = None) -> RetrievalTask:
        """Return the task over the objects with all four photos; the others are left out and noted."""
        photos = photos or self.photos()
        groups = np.array([int(name[-5:]) // VIEWS for name in photos.ids])
        objects, counts = np.unique(groups, return_counts=True)
        complete = np.isin(groups, objects[counts == VIEWS])
        if not complete.any():
            raise InputError(
                f"{self.root}: no object with all its four photos; expected there: {self.expected}"
            )
        database = photos.subset(np.flatnonzero(complete))
        notes = photos.notes()
        if not complete.all():
            notes = (f"{int((~complete).sum())} photos of incomplete objects left out", *notes)
        return RetrievalTask(
            name=self.name,
            protocol=(
                "ukbench: every photo is a query, the four photos of its object are relevant, the query "
                "itself stays in the database and counts, finite-sum AP"
            ),
            database=database,
            queries=database,
            relevance=tuple(
                Relevance(np.arange(i - i % VIEWS, i - i % VIEWS + VIEWS)) for i in range(len(database))
            ),
            subset=None if len(database) == IMAGES else len(database),
            notes=notes,
        )
