"""Revisited Oxford and Paris: 70 queries each, protocols Easy, Medium and Hard.

Radenovic et al., CVPR 2018. The images are those of Oxford5k and Paris6k.
"""

from pathlib import Path
from typing import Any

import numpy as np

from niphash.data.ground_truth.revisited_pickle import RevisitedQuery, RevisitedTruth, read_revisited
from niphash.data.images import ImageSet
from niphash.data.sets.published import ListedSet, photos_by_stem
from niphash.data.survey import walk_files
from niphash.data.task import Relevance, RetrievalTask, empty_query_notes
from niphash.errors import InputError


class RevisitedData(ListedSet):
    """roxford or rparis; Medium is the main ground truth, Easy, Medium and Hard are its variants.

    Args:
        root: Folder of the images (the same as for ``oxford`` or ``paris``).
        name: ``"roxford"`` or ``"rparis"``.
        truth_file: File name of the ground truth, ``gnd_roxford5k.pkl`` or ``gnd_rparis6k.pkl``.
        crop_query: Whether a query is cut to its box.
        **published: See :class:`~niphash.data.sets.published.PublishedSet`.
    """

    def __init__(
        self, root: str | Path, name: str, truth_file: str, crop_query: bool = True, **published: Any
    ) -> None:
        super().__init__(root, **published)
        self.name = name
        self.truth_file = truth_file
        self.crop_query = crop_query
        self.expected = f"{truth_file} and the images it names (in the folder itself or in jpg/)"

    def has_ground_truth(self) -> bool:
        """Return whether the official pickle file is there."""
        return self._truth_path() is not None

    def truth(self) -> RevisitedTruth:
        """Return the official ground truth.

        Raises:
            InputError: it is not there, or malformed.
        """
        path = self._truth_path()
        if path is None:
            raise InputError(f"{self.root}: no {self.truth_file}; expected there: {self.expected}")
        return read_revisited(path)

    def photos(self) -> ImageSet:
        """Return the images on disk, queries among them, named by stem."""
        return photos_by_stem(self.root, self.expected)

    def named(self) -> frozenset[str]:
        """Return the names of database and query images."""
        truth = self.truth()
        return frozenset(truth.images) | {query.image for query in truth.queries}

    def task(self, photos: ImageSet | None = None) -> RetrievalTask:
        """Return the task; queries of which a relevant image is missing are left out and noted."""
        photos = photos or self.photos()
        truth = self.truth()
        photos = self.spelled(photos, self.named())
        paths = dict(zip(photos.ids, photos.sources, strict=True))
        listed = [name for name in truth.images if name in paths]
        database = ImageSet(tuple(listed), tuple(paths[name] for name in listed), survey=photos.survey)
        row = {name: i for i, name in enumerate(listed)}
        to_row = np.array([row.get(name, -1) for name in truth.images], np.int64)
        complete = [
            query
            for query in truth.queries
            if query.image in paths and (to_row[np.concatenate((query.easy, query.hard))] >= 0).all()
        ]
        if not complete:
            raise InputError(
                f"{self.root}: none of the {len(truth.queries)} queries of {self.name} has all its images; "
                f"expected there: {self.expected}"
            )
        notes = []
        if len(database) < len(truth.images):
            notes.append(f"{len(truth.images) - len(database)} database images are not in {self.root}")
        if len(complete) < len(truth.queries):
            left_out = len(truth.queries) - len(complete)
            notes.append(
                f"{left_out} of {len(truth.queries)} queries left out: not all their images are here"
            )
        variants = {name: tuple(_protocol(name, query, to_row) for query in complete) for name in PROTOCOLS}
        return RetrievalTask(
            name=self.name,
            protocol=(
                f"{self.name}: {len(complete)} queries{' cut to their boxes' if self.crop_query else ''}; "
                "Easy: easy relevant, hard and junk out; Medium (the main one): easy and hard relevant, junk "
                "out; Hard: hard relevant, easy and junk out; trapezoid AP"
            ),
            database=database,
            queries=ImageSet(
                ids=tuple(query.image for query in complete),
                sources=tuple(paths[query.image] for query in complete),
                boxes=tuple(query.box for query in complete) if self.crop_query else None,
            ),
            relevance=variants["medium"],
            variants=variants,
            average_precision="trapezoid",
            subset=None if not notes else len(database),
            notes=(
                *notes,
                *empty_query_notes(variants["medium"], variants),
                *photos.notes(),
            ),
        )

    def _truth_path(self) -> Path | None:
        return next((path for path in walk_files(self.root) if path.name == self.truth_file), None)


#: Protocol -> (relevant, junk), section 3.2 of the paper.
PROTOCOLS = {
    "easy": (("easy",), ("hard", "junk")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("easy", "junk")),
}


def _protocol(name: str, query: RevisitedQuery, to_row: np.ndarray) -> Relevance:
    relevant, junk = (
        np.concatenate([to_row[getattr(query, label)] for label in labels]) for labels in PROTOCOLS[name]
    )
    return Relevance(relevant, junk[junk >= 0])
