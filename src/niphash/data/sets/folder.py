"""The user's own photos: labelled by sub-folder, by two CSV files, or not at all."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from niphash.data.dataset import DataSet
from niphash.data.decode import UnreadableImage, photo_size, pixel_box
from niphash.data.ground_truth.queries import LEAST_BOX_SIDE
from niphash.data.ground_truth.tables import LabelRow, QueryRow, read_queries, read_relevance
from niphash.data.images import ImageSet
from niphash.data.names import NameTable, portable_name
from niphash.data.objects import find_objects
from niphash.data.survey import user_path
from niphash.data.task import Relevance, RetrievalTask, empty_query_notes
from niphash.errors import InputError

QUERIES = "queries.csv"
RELEVANCE = "relevance.csv"
#: Photos in this sub-folder are queries only, when the labels come from CSV files.
QUERY_FOLDER = "queries"


class FolderData(DataSet):
    """A folder of photos.

    With ``queries.csv`` and ``relevance.csv`` in it, these say what is a query and what is relevant. Without
    them each sub-folder is an object (below ``train/``, ``val/`` where these are, see
    :func:`niphash.data.objects.find_objects`) and every photo a query against all others. A flat folder has
    no labels and serves for fitting and indexing only.

    Args:
        root: The folder.
        crop_query: Whether a query with a box in ``queries.csv`` is cut to it.
    """

    name = "folder"

    def __init__(self, root: str | Path | None, crop_query: bool = True) -> None:
        self.root = user_path(root) if root is not None else Path()
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
        photos = ImageSet.from_folder(self.root, known=(QUERIES, RELEVANCE))
        if len(photos) < 2:
            only = portable_name(Path(photos.ids[0]).name)
            raise InputError(
                f"{self.root}: only one image ({only}) in this folder; at least two photos are needed"
            )
        return photos

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
        objects = find_objects(photos.ids, str(self.root))
        members: dict[str, list[int]] = defaultdict(list)
        for i, name in enumerate(objects.of):
            if name is not None:
                members[name].append(i)
        if not members:
            raise InputError(
                f"{self.root}: no labels in this flat folder; make one sub-folder an object, or add "
                f"{QUERIES} and {RELEVANCE} (without labels it serves for fitting and indexing only)"
            )
        usable = {name: rows for name, rows in members.items() if len(rows) > 1}
        if len(members) < 2 or not usable:
            inner = " (its own sub-folders are not looked at; name it with data.root)" * bool(objects.nested)
            raise InputError(
                f"{self.root}: no usable group in this folder; at least two sub-folders (objects) are "
                f"needed, one of them with two photos or more; found {len(members)}{inner}"
            )
        rows = sorted(row for group in usable.values() for row in group)
        group_of = {row: np.array(group) for group in usable.values() for row in group}
        loose, single = objects.of.count(None), len(members) - len(usable)
        notes = [f"{len(usable)} objects, {len(rows)} queries, {loose + single} distractors"]
        if loose or single:
            notes[0] += f" (photos outside the sub-folders: {loose}, objects with a single photo: {single})"
        if objects.splits:
            splits = " and ".join(f"{split}/" for split in objects.splits)
            notes.append(
                f"{splits} are parts of a data set: the folders below are the objects, those of one name one "
                "object; name one part with data.root to take it alone"
            )
        if objects.nested:
            notes.append(f"{objects.nested} objects have sub-folders, whose photos are of the same object")
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
            notes=(*notes, *photos.notes()),
        )

    def _from_tables(self, photos: ImageSet) -> RetrievalTask:
        queries = read_queries(self.root / QUERIES)
        labels = read_relevance(self.root / RELEVANCE, frozenset(query.name for query in queries))
        table = NameTable(photos.ids)
        pictures = []
        for query in queries:
            where = f"{self.root / QUERIES}, line {query.line}"
            row = table.find(query.image, where)
            if row is None:
                raise InputError(f"{where}: no photo {query.image!r} in {self.root}")
            pictures.append(row)
        in_database = [i for i, name in enumerate(photos.ids) if not name.startswith(f"{QUERY_FOLDER}/")]
        database_row = {i: number for number, i in enumerate(in_database)}
        found = self._labels(labels, table, database_row)
        relevance = tuple(
            self._table_relevance(found.get(query.name, {}), database_row.get(row))
            for query, row in zip(queries, pictures, strict=True)
        )
        if not any(len(truth.relevant) for truth in relevance):
            raise InputError(f"{self.root / RELEVANCE}: no query has a relevant photo")
        picked = photos.subset(pictures)
        boxed = self.crop_query and any(query.box is not None for query in queries)
        if boxed:
            for query, source in zip(queries, picked.sources, strict=True):
                self._check_box(query, source)
        wanted = set(np.concatenate([truth.relevant for truth in relevance]).tolist())
        asked = {database_row[row] for row in pictures if row in database_row}
        counts = (
            f"{len(queries)} queries, {len(wanted)} database photos relevant to one or more of them, "
            f"{len(in_database) - len(wanted | asked)} distractors"
        )
        return RetrievalTask(
            name=self.name,
            protocol=(
                f"folder: {len(queries)} queries of {QUERIES}, relevant and junk photos of {RELEVANCE}, a "
                "query's own photo taken out of the ranking unless it is listed as relevant, finite-sum AP"
            ),
            database=photos.subset(in_database),
            queries=ImageSet(
                ids=tuple(query.name for query in queries),
                sources=picked.sources,
                boxes=tuple(query.box for query in queries) if boxed else None,
            ),
            relevance=relevance,
            notes=(counts, *empty_query_notes(relevance), *photos.notes()),
        )

    def _labels(
        self, labels: tuple[LabelRow, ...], table: NameTable, database_row: dict[int, int]
    ) -> dict[str, dict[int, LabelRow]]:
        """Return the label of each photo, by query and row of the database; contradictions are refused."""
        found: dict[str, dict[int, LabelRow]] = defaultdict(dict)
        for label in labels:
            where = f"{self.root / RELEVANCE}, line {label.line}"
            photo = table.find(label.image, where)
            if photo is None or photo not in database_row:
                raise InputError(f"{where}: no photo {label.image!r} in the database")
            first = found[label.query].setdefault(database_row[photo], label)
            if first.label != label.label:
                raise InputError(
                    f"{where}: {label.image!r} is {label.label} for the query {label.query!r} here and "
                    f"{first.label} in line {first.line}; keep one of the two"
                )
        return found

    def _check_box(self, query: QueryRow, source: object) -> None:
        """Refuse a box that misses its photo, or leaves a few pixels of it."""
        if query.box is None or not isinstance(source, Path):
            return
        try:
            size = photo_size(source, query.image)
        except UnreadableImage:
            return  # it is counted and named when it is described
        where = f"{self.root / QUERIES}, line {query.line}: the box of query {query.name!r}"
        try:
            left, top, right, bottom = pixel_box(query.box, size, query.image)
        except UnreadableImage:
            raise InputError(
                f"{where} misses the photo, which is {size[0]} x {size[1]} pixels; give left, top, right, "
                "bottom in pixels of the upright photo"
            ) from None
        if min(right - left, bottom - top) < LEAST_BOX_SIDE:
            raise InputError(
                f"{where} holds {right - left} x {bottom - top} pixels of the photo, which is {size[0]} x "
                f"{size[1]}; give left, top, right, bottom in pixels of the upright photo"
            )

    @staticmethod
    def _table_relevance(labels: dict[int, LabelRow], own: int | None) -> Relevance:
        relevant = [row for row, label in labels.items() if label.label == "relevant"]
        junk = [row for row, label in labels.items() if label.label == "junk"]
        if own is not None and own not in labels:
            junk.append(own)
        return Relevance(np.array(sorted(relevant), np.int64), np.array(sorted(junk), np.int64))
