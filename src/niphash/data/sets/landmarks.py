"""Oxford5k and Paris6k: 55 boxed queries of 11 landmarks each.

Philbin et al., CVPR 2007 (Oxford Buildings) and CVPR 2008 (Paris).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from niphash.data.ground_truth.matlab import read_matlab_truth
from niphash.data.ground_truth.oxford_text import QUERY_SUFFIX, read_oxford_text
from niphash.data.ground_truth.queries import GroundTruth, QueryTruth
from niphash.data.images import ImageSet
from niphash.data.sets.published import ListedSet, photos_by_stem
from niphash.data.survey import walk_files
from niphash.data.task import Relevance, RetrievalTask, empty_query_notes
from niphash.errors import InputError


class LandmarkData(ListedSet):
    """Oxford5k or Paris6k in the official layout.

    Args:
        name: ``"oxford"`` or ``"paris"``.
        matlab_truth: File name of the ground truth in MATLAB format, read where the text files are absent.
        sizes: Numbers of database images that count as the whole data set; another one is a subset.
        corrupt: Names of images that are officially left out.
        crop_query: Whether a query is cut to its box.
        **published: See :class:`~niphash.data.sets.published.PublishedSet`.
    """

    def __init__(
        self,
        root: str | Path,
        name: str,
        matlab_truth: str,
        sizes: Iterable[int],
        corrupt: Iterable[str] = (),
        crop_query: bool = True,
        **published: Any,
    ) -> None:
        super().__init__(root, **published)
        self.name = name
        self.matlab_truth = matlab_truth
        self.sizes = frozenset(sizes)
        self.corrupt = frozenset(corrupt)
        self.crop_query = crop_query
        self.expected = (
            f"the {name} images (in the folder itself or in jpg/) and the official text files "
            f"*{QUERY_SUFFIX}, *_good.txt, *_ok.txt, *_junk.txt, or {matlab_truth}"
        )

    def has_ground_truth(self) -> bool:
        """Return whether text files or the MATLAB file are there."""
        return self._text_folder() is not None or self._matlab_file() is not None

    def photos(self) -> ImageSet:
        """Return all images but the corrupt ones, named by stem."""
        return photos_by_stem(
            self.root, self.expected, lambda stem: stem not in self.corrupt, "officially corrupt"
        )

    def truth(self) -> GroundTruth:
        """Return the official ground truth, the text files before the MATLAB file.

        Raises:
            InputError: there is none, or it is malformed.
        """
        folder = self._text_folder()
        if folder is not None:
            return read_oxford_text(folder)
        file = self._matlab_file()
        if file is not None:
            return read_matlab_truth(file)
        raise InputError(f"{self.root}: no ground truth of {self.name}; expected there: {self.expected}")

    def named(self) -> frozenset[str]:
        """Return every image that the ground truth names, the corrupt ones left out."""
        truth = self.truth()
        names = set(truth.images or ())
        for query in truth.queries:
            names.update((query.image, *query.relevant, *query.junk))
        return frozenset(names - self.corrupt)

    def task(self, photos: ImageSet | None = None) -> RetrievalTask:
        """Return the task; queries of which an image is missing are left out and noted."""
        photos = photos or self.photos()
        truth = self.truth()
        photos = self.spelled(photos, self.named())
        if truth.images is not None:
            listed = set(truth.images)
            photos = photos.subset(i for i, name in enumerate(photos.ids) if name in listed)
        row = {name: i for i, name in enumerate(photos.ids)}
        complete = [query for query in truth.queries if self._needed(query) <= row.keys()]
        if not complete:
            raise InputError(
                f"{self.root}: none of the {len(truth.queries)} queries of {self.name} has all its images; "
                f"expected there: {self.expected}"
            )
        database = photos
        relevance = tuple(self._relevance(query, row) for query in complete)
        return RetrievalTask(
            name=self.name,
            protocol=(
                f"{self.name}: {len(complete)} queries{' cut to their boxes' if self.crop_query else ''}, "
                "good and ok images relevant, junk taken out of the ranking, the query image stays in the "
                "database, trapezoid AP"
            ),
            database=database,
            queries=ImageSet(
                ids=tuple(query.name for query in complete),
                sources=tuple(database.sources[row[query.image]] for query in complete),
                boxes=tuple(query.box for query in complete) if self.crop_query else None,
            ),
            relevance=relevance,
            average_precision="trapezoid",
            subset=None
            if len(database) in self.sizes and len(complete) == len(truth.queries)
            else len(database),
            notes=(
                *self._notes(len(truth.queries), len(complete), row),
                *empty_query_notes(relevance),
                *photos.notes(),
            ),
        )

    def _needed(self, query: QueryTruth) -> set[str]:
        return {query.image, *query.relevant} - self.corrupt

    def _relevance(self, query: QueryTruth, row: Mapping[str, int]) -> Relevance:
        return Relevance(
            relevant=[row[name] for name in query.relevant if name in row],  # type: ignore[arg-type]
            junk=[row[name] for name in query.junk if name in row],  # type: ignore[arg-type]
        )

    def _notes(self, queries: int, complete: int, row: Mapping[str, int]) -> tuple[str, ...]:
        missing = len(self.named() - row.keys())
        notes = []
        if missing:
            notes.append(f"{missing} images that the ground truth names are not in {self.root}")
        if complete < queries:
            notes.append(f"{queries - complete} of {queries} queries left out: not all their images are here")
        return tuple(notes)

    def _text_folder(self) -> Path | None:
        queries = (path.parent for path in walk_files(self.root) if path.name.endswith(QUERY_SUFFIX))
        return next(queries, None)

    def _matlab_file(self) -> Path | None:
        return next((path for path in walk_files(self.root) if path.name == self.matlab_truth), None)
