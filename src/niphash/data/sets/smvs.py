"""Stanford Mobile Visual Search: phone photos against clean reference pictures, eight categories.

Chandrasekhar et al., "The Stanford mobile visual search data set", MMSys 2011.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from niphash.data.download.remote_files import RemoteFile
from niphash.data.images import ImageSet
from niphash.data.sets.published import PublishedSet, holds_images
from niphash.data.survey import Survey, look_through
from niphash.data.task import Relevance, RetrievalTask
from niphash.errors import InputError

CATEGORIES = (
    "book_covers",
    "business_cards",
    "cd_covers",
    "dvd_covers",
    "landmarks",
    "museum_paintings",
    "print",
    "video_frames",
)
#: The planar categories that the papers evaluate together.
GRAPHICS = ("book_covers", "business_cards", "cd_covers", "dvd_covers", "print")
REFERENCE = "reference"
_NUMBER = re.compile(r"[0-9]{1,9}")


class StanfordMobileData(PublishedSet):
    """SMVS in its official layout: ``<category>/Reference/`` and one folder a phone beside it.

    Args:
        root: Folder that holds the category folders.
        category: One of the eight, or ``graphics`` for the five planar ones together.
        **published: See :class:`PublishedSet`; an archive belongs to the category
            that its name starts with.
    """

    name = "smvs"

    def __init__(self, root: str | Path, category: str = "graphics", **published: Any) -> None:
        super().__init__(root, **published)
        if category != "graphics" and category not in CATEGORIES:
            raise InputError(f"data.category={category}: choose graphics or one of {', '.join(CATEGORIES)}")
        self.category = category
        self.categories = GRAPHICS if category == "graphics" else (category,)
        self.archives = tuple(file for file in self.archives if _category_of(file) in self.categories)
        self.expected = (
            f"{', '.join(f'{name}/' for name in self.categories)} with Reference/ and phone folders each"
        )

    def has_images(self) -> bool:
        """Return whether any of the chosen categories is there."""
        return any(holds_images(folder) for folder in self._folders().values())

    def photos(self) -> ImageSet:
        """Return the reference pictures and the phone photos of the chosen categories."""
        references, queries, survey = self._split()
        return self._images(references + queries, survey)

    def named(self) -> frozenset[str]:
        """Return what is on disk: SMVS has no list of its files."""
        return frozenset(self.photos().ids)

    def fit_set(self) -> ImageSet:
        """Return the reference pictures (transductive, without labels)."""
        return self.task().database

    def task(self) -> RetrievalTask:
        """Return phone photos as queries and reference pictures as database."""
        references, photos, survey = self._split()
        by_object: dict[tuple[str, int], list[int]] = {}
        for row, path in enumerate(references):
            by_object.setdefault(self._object(path), []).append(row)
        queries = [path for path in photos if self._object(path) in by_object]
        if not queries:
            raise InputError(
                f"{self.root}: no phone photo with a reference picture; expected there: {self.expected}"
            )
        notes = []
        if len(queries) < len(photos):
            notes.append(f"{len(photos) - len(queries)} phone photos without a reference picture left out")
        missing = [name for name in self.categories if name not in self._folders()]
        if missing:
            notes.append(f"categories not in {self.root}: {', '.join(missing)}")
        notes += survey.notes()
        return RetrievalTask(
            name=f"smvs-{self.category}",
            protocol=(
                f"smvs {self.category}: {len(queries)} phone photos are queries, the {len(references)} "
                "reference pictures the database, those with the photo's category and number relevant, "
                "finite-sum AP"
            ),
            database=self._images(references, survey),
            queries=self._images(queries, survey),
            relevance=tuple(Relevance(np.array(by_object[self._object(path)])) for path in queries),
            subset=len(references) if missing else None,
            notes=tuple(notes),
        )

    def _folders(self) -> dict[str, Path]:
        """Return the folders of the chosen categories that are there, in the root or one folder below."""
        found: dict[str, Path] = {}
        for pattern in ("*", "*/*"):
            for folder in sorted(self.root.glob(pattern)):
                if folder.name.lower() in self.categories and folder.is_dir():
                    found.setdefault(folder.name.lower(), folder)
        return found

    def _split(self) -> tuple[list[Path], list[Path], Survey]:
        """Return reference pictures, phone photos, and the survey of the folders they come from."""
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder; expected there: {self.expected}")
        paths: list[Path] = []
        left_out: Counter[str] = Counter()
        for folder in self._folders().values():
            found, survey = look_through(folder)
            # the official layout: <category>/<device>/<number>.jpg, nothing deeper
            official = [p for p in found if p.parent.parent == folder and _NUMBER.match(p.stem)]
            left_out.update(survey.left_out)
            left_out["outside <category>/<device>/<number>.jpg"] += len(found) - len(official)
            paths += official
        references = [path for path in paths if path.parent.name.lower() == REFERENCE]
        photos = [path for path in paths if path.parent.name.lower() != REFERENCE]
        if not references or not photos:
            what = "reference picture" if not references else "phone photo"
            raise InputError(f"{self.root}: no {what} in this folder; expected there: {self.expected}")
        return references, photos, Survey(len(paths), {k: n for k, n in sorted(left_out.items()) if n})

    def _object(self, path: Path) -> tuple[str, int]:
        number = _NUMBER.match(path.stem)
        assert number is not None
        return path.parent.parent.name.lower(), int(number[0])

    def _images(self, paths: list[Path], survey: Survey) -> ImageSet:
        ids = tuple(path.relative_to(self.root).as_posix() for path in paths)
        return ImageSet(ids, tuple(paths), survey=survey)


def _category_of(file: RemoteFile) -> str:
    return file.name.partition(".")[0]
