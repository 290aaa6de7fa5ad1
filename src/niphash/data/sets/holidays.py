"""INRIA Holidays: 1491 photos, 500 queries; Jegou, Douze, Schmid, ECCV 2008."""

from pathlib import Path

import numpy as np

from niphash.data.ground_truth.holidays import holidays_groups, read_holidays_list
from niphash.data.ground_truth.matlab import read_matlab_truth
from niphash.data.images import ImageSet
from niphash.data.sets.published import ListedSet, photos_by_stem
from niphash.data.survey import walk_files
from niphash.data.task import Relevance, RetrievalTask
from niphash.errors import InputError

IMAGES = 1491
QUERIES = 500
NAME_LIST = "holidays_images.dat"
MATLAB_TRUTH = "gnd_holidays.mat"


class HolidaysData(ListedSet):
    """INRIA Holidays: the ground truth is in the names ``NNNNKK.jpg``, KK = 00 being the query.

    Where ``holidays_images.dat`` or ``gnd_holidays.mat`` lies beside the images it tells which groups are
    complete; without it a group counts as complete when its query and another image are there.
    """

    name = "holidays"
    expected = "the images 100000.jpg, 100001.jpg, ... (in the folder itself or in jpg/)"

    def photos(self) -> ImageSet:
        """Return every Holidays photo on disk."""
        photos = photos_by_stem(self.root, self.expected, _is_name)
        if not len(photos):
            raise InputError(
                f"{self.root}: no Holidays photo in this folder; expected there: {self.expected}"
            )
        return photos

    def named(self) -> frozenset[str]:
        """Return the names of the official list, or of the photos on disk where no list is there."""
        return frozenset(self._official() or self.photos().ids)

    def task(self, photos: ImageSet | None = None) -> RetrievalTask:
        """Return the task over the complete groups; the others are left out and noted."""
        photos = photos or self.photos()
        groups = {query: others for query, others in holidays_groups(self.named()).items() if others}
        here = set(photos.ids)
        complete = {query: others for query, others in groups.items() if {query, *others} <= here}
        if not complete:
            raise InputError(
                f"{self.root}: no group with its query and another photo; expected there: {self.expected}"
            )
        kept = {name for query, others in complete.items() for name in (query, *others)}
        database = photos.subset(i for i, name in enumerate(photos.ids) if name in kept)
        row = {name: i for i, name in enumerate(database.ids)}
        notes = []
        if len(database) < len(photos):
            notes.append(f"{len(photos) - len(database)} photos of incomplete groups left out")
        notes += photos.notes()
        return RetrievalTask(
            name=self.name,
            protocol=(
                "holidays: the first photo of each group is a query, the others of its group are relevant, "
                "the query itself is taken out of the ranking, trapezoid AP"
            ),
            database=database,
            queries=database.subset(row[query] for query in complete),
            relevance=tuple(
                Relevance(np.array([row[name] for name in others]), np.array([row[query]]))
                for query, others in complete.items()
            ),
            average_precision="trapezoid",
            subset=None if (len(database), len(complete)) == (IMAGES, QUERIES) else len(database),
            notes=tuple(notes),
        )

    def _official(self) -> tuple[str, ...] | None:
        lists: dict[str, Path] = {}
        for path in walk_files(self.root):
            if path.name in (NAME_LIST, MATLAB_TRUTH):
                lists.setdefault(path.name, path)
        if NAME_LIST in lists:
            return read_holidays_list(lists[NAME_LIST])
        if MATLAB_TRUTH in lists:
            return read_matlab_truth(lists[MATLAB_TRUTH]).images
        return None


def _is_name(stem: str) -> bool:
    return len(stem) == 6 and stem.isascii() and stem.isdecimal()
