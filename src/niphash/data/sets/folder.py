"""The user's own photos: labelled by sub-folder, by two CSV files, or not at all."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from niphash.data.dataset import DataSet
from niphash.data.ground_truth.tables import QueryRow, read_queries, read_relevance
from niphash.data.images import ImageSet, image_files
from niphash.data.task import Relevance, RetrievalTask
from niphash.errors import InputError

QUERIES = "queries.csv"
RELEVANCE = "relevance.csv"
#: Photos in this sub-folder are queries only, when the labels come from CSV files.
QUERY_FOLDER = "queries"


class FolderData(DataSet):
    """A folder of photos.

    With ``queries.csv`` and ``relevance.csv`` in it, these say what is a query and what is relevant. Without
    them each sub-folder is an object and every photo a query against all others. A flat folder has no labels
    and serves for fitting and indexing only.

    Args:
        root: The folder.
        crop_query: Whether a query with a box in ``queries.csv`` is cut to it.
    """

    name = "folder"

    def __init__(self, root: str | Path | None, crop_query: bool = True) -> None:
        self.root = Path(root) if root is not None else Path()
        self._given = root is not None
        self.crop_query = crop_query

    def prepare(self) -> None:
        """Check that the folder holds photos; there is nothing to fetch.

        Raises:
            InputError: no folder was named, or it holds fewer than two photos.
        """
        self.photos()

    def photos(self) -> ImageSet:
        """Return all photos under the folder, named by relative path."""
        if not self._given:
            raise InputError("data=folder needs data.root=<folder of photos>")
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder; name a folder of photos with data.root")
        paths = image_files(self.root)
        if len(paths) < 2:
            found = "no image" if not paths else f"only one image ({paths[0].name})"
            raise InputError(f"{self.root}: {found} in this folder; at least two photos are needed")
        return ImageSet(tuple(path.relative_to(self.root).as_posix() for path in paths), tuple(paths))

    def fit_set(self) -> ImageSet:
        """Return all photos; no labels are needed."""
        return self.photos()

    def task(self) -> RetrievalTask:
        """Return the labelled task.

        Raises:
            InputError: the folder has no labels, or unusable ones.
        """
        photos = self.photos()
        tables = [(self.root / name).is_file() for name in (QUERIES, RELEVANCE)]
        if all(tables):
            return self._from_tables(photos)
        if any(tables):
            missing = RELEVANCE if tables[0] else QUERIES
            raise InputError(
                f"{self.root / missing}: no such file; {QUERIES} and {RELEVANCE} belong together"
            )
        return self._from_subfolders(photos)

    def _from_subfolders(self, photos: ImageSet) -> RetrievalTask:
        members: dict[str, list[int]] = defaultdict(list)
        loose = 0
        for i, name in enumerate(photos.ids):
            object_name, _, rest = name.partition("/")
            if rest:
                members[object_name].append(i)
            else:
                loose += 1
        if not members:
            raise InputError(
                f"{self.root}: no labels in this flat folder; make one sub-folder an object, or add "
                f"{QUERIES} and {RELEVANCE} (without labels it serves for fitting and indexing only)"
            )
        usable = {name: rows for name, rows in members.items() if len(rows) > 1}
        if len(members) < 2 or not usable:
            raise InputError(
                f"{self.root}: no usable group in this folder; at least two sub-folders (objects) are "
                "needed, one of them with two photos or more"
            )
        rows = sorted(row for group in usable.values() for row in group)
        group_of = {row: np.array(group) for group in usable.values() for row in group}
        notes = []
        if loose:
            notes.append(f"{loose} photos outside the sub-folders are distractors")
        if len(usable) < len(members):
            notes.append(f"{len(members) - len(usable)} objects with a single photo are distractors")
        return RetrievalTask(
            name=self.name,
            protocol=(
                "folder: every photo of an object with two photos or more is a query against all others, the "
                "other photos of its sub-folder are relevant, the query itself is taken out of the ranking, "
                "finite-sum AP"
            ),
            database=photos,
            queries=photos.subset(rows),
            relevance=tuple(Relevance(group_of[row], np.array([row])) for row in rows),
            notes=tuple(notes),
        )

    def _from_tables(self, photos: ImageSet) -> RetrievalTask:
        queries = read_queries(self.root / QUERIES)
        labels = read_relevance(self.root / RELEVANCE, frozenset(query.name for query in queries))
        everything = {name: i for i, name in enumerate(photos.ids)}
        database = photos.subset(
            i for i, name in enumerate(photos.ids) if not name.startswith(f"{QUERY_FOLDER}/")
        )
        row = {name: i for i, name in enumerate(database.ids)}
        for query in queries:
            if query.image not in everything:
                raise InputError(
                    f"{self.root / QUERIES}, line {query.line}: no photo {query.image!r} in {self.root}"
                )
        for label in labels:
            if label.image not in row:
                raise InputError(
                    f"{self.root / RELEVANCE}, line {label.line}: no photo {label.image!r} in the database"
                )
        found: dict[str, dict[str, set[int]]] = {
            query.name: {"relevant": set(), "junk": set()} for query in queries
        }
        for label in labels:
            found[label.query][label.label].add(row[label.image])
        if not any(found[query.name]["relevant"] for query in queries):
            raise InputError(f"{self.root / RELEVANCE}: no query has a relevant photo")
        picked = photos.subset(everything[query.image] for query in queries)
        boxed = self.crop_query and any(query.box is not None for query in queries)
        return RetrievalTask(
            name=self.name,
            protocol=(
                f"folder: {len(queries)} queries of {QUERIES}, relevant and junk photos of {RELEVANCE}, a "
                "query's own photo taken out of the ranking unless it is listed as relevant, finite-sum AP"
            ),
            database=database,
            queries=ImageSet(
                ids=tuple(query.name for query in queries),
                sources=picked.sources,
                boxes=tuple(query.box for query in queries) if boxed else None,
            ),
            relevance=tuple(self._table_relevance(query, found[query.name], row) for query in queries),
        )

    @staticmethod
    def _table_relevance(query: QueryRow, found: dict[str, set[int]], row: dict[str, int]) -> Relevance:
        own = {row[query.image]} if query.image in row else set()
        junk = found["junk"] | (own - found["relevant"])
        return Relevance(np.array(sorted(found["relevant"]), np.int64), np.array(sorted(junk), np.int64))
