"""Bringing a collection up to what its folders hold, so that a kill at any moment loses no photo.

What is in the manifest is in the index: a photo's code is written first and removed last. A kill leaves at
most codes of no photo, which no search returns and the next writer removes.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from niphash.collection.manifest import Entry, Manifest
from niphash.collection.places import Place, Scope
from niphash.data.images import ImageSet, UnreadableImage
from niphash.data.survey import Survey
from niphash.descriptors.describer import DescribeReport, Skipped
from niphash.errors import writing
from niphash.model import Model
from niphash.progress import track
from niphash.search.index import Index
from niphash.search.rerank.feature_store import remove_features

if TYPE_CHECKING:
    from niphash.descriptors.store.store import DescriptorStore

#: Photos written at a time: what a kill can lose.
BATCH = 256
#: A file modified so shortly before it was read may have changed again without a sign.
_UNSURE_NS = 2 * 10**9


@dataclass
class Changes:
    """What was done to a collection.

    Attributes:
        added: Ids of photos that are new.
        changed: New ids of photos whose content changed; their former ids are gone.
        removed: Ids of photos that were removed, since their files are gone.
        unchanged: Number of photos that were as the collection knows them.
        gone: Ids that are still held although their files are gone.
        blank: Number of photos among the added and changed without any local descriptor; they match nothing.
        skipped: Photos that could not be read.
        surveys: What was taken and left out of each folder.
    """

    added: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    unchanged: int = 0
    gone: list[int] = field(default_factory=list)
    blank: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    surveys: dict[str, Survey] = field(default_factory=dict)


class _Pending(NamedTuple):
    """A photo that is to be described."""

    root: int
    place: Place
    checksum: bytes
    stat: os.stat_result
    noted_ns: int
    former: Entry | None

    def entry(self, number: int, coded: bool) -> Entry:
        """Return it as a photo of the collection."""
        size, mtime = self.stat.st_size, self.stat.st_mtime_ns
        return Entry(number, self.root, self.place.name, self.checksum, size, mtime, self.noted_ns, coded)


class Update:
    """One pass over photos; to be made while the collection's lock is held.

    Args:
        manifest: Open for writing.
        codes: Open for writing.
        model: Describes and hashes.
        store: Where described photos are looked up and kept.
        changes: What is done is entered there.
        features: Folder of the local features that are kept of photos.
    """

    def __init__(
        self,
        manifest: Manifest,
        codes: Index,
        model: Model,
        store: "DescriptorStore | None",
        changes: Changes,
        features: Path,
    ) -> None:
        self.manifest, self.codes, self.model, self.store = manifest, codes, model, store
        self.changes, self.features = changes, features
        self._seen: set[int] = set()
        self._pending: list[_Pending] = []
        self._noted: list[Entry] = []

    def run(self, places: Sequence[Place], scopes: Sequence[Scope], prune: bool) -> None:
        """Enter the photos at ``places``.

        Args:
            places: Photos that are there.
            scopes: What was looked through; other photos in it are gone.
            prune: Whether to remove them.
        """
        with self.manifest.transaction():
            roots = {*(place.root for place in places), *(scope.root for scope in scopes)}
            numbers = {root: self.manifest.add_root(root) for root in sorted(roots)}
        for place in track(places, "look up", len(places)) if len(places) > 1 else places:
            self._look_at(place, numbers[place.root])
            if len(self._pending) == BATCH or len(self._noted) == 16 * BATCH:
                self._write()
        self._write()
        held = {n for s in scopes for n, _ in self.manifest.under(numbers[s.root], s.prefix)}
        gone = sorted(held - self._seen)
        if prune:
            forget(self.manifest, self.codes, list(self.manifest.entries(gone).values()), self.features)
        (self.changes.removed if prune else self.changes.gone).extend(gone)

    def _look_at(self, place: Place, root: int) -> None:
        """Find out whether the photo is to be described, or its file alone is to be noted."""
        former = self.manifest.at(root, place.name)
        if former is not None:
            self._seen.add(former.id)
        try:
            stat, now = place.path.stat(), time.time_ns()
            if former is not None and _is_as_noted(former, stat):
                self.changes.unchanged += 1
                return
            checksum = content_checksum(place)
        except (OSError, UnreadableImage) as error:
            why = error.reason if isinstance(error, UnreadableImage) else f"cannot be read ({error.strerror})"
            self.changes.skipped.append(Skipped(-1, str(place.path), why))
            return
        if former is not None and former.checksum == checksum:
            noted = former._replace(size=stat.st_size, mtime_ns=stat.st_mtime_ns, noted_ns=now)
            self._noted.append(noted)
            self.changes.unchanged += 1
        else:
            self._pending.append(_Pending(root, place, checksum, stat, now, former))

    def _write(self) -> None:
        """Describe the photos that wait and enter them: code first, then name; a former code goes last."""
        rows, descriptors, blank = self._described()
        photos, coded = [self._pending[row] for row in rows], ~blank
        former = [photo.former for photo in photos if photo.former is not None]
        with self.manifest.transaction():
            ids = np.array(self.manifest.reserve(len(rows)), np.int64)
            if coded.any():
                self.codes.add(self.model.hasher.encode(descriptors[coded]), ids[coded])
            self.manifest.delete(former)
            self.manifest.add(
                [p.entry(*of) for p, *of in zip(photos, ids.tolist(), coded.tolist(), strict=True)]
            )
            self.manifest.note(self._noted)
        _remove_codes(self.codes, [entry.id for entry in former if entry.coded])
        _forget_features(self.manifest, former, self.features)
        for number, photo in zip(ids.tolist(), photos, strict=True):
            (self.changes.added if photo.former is None else self.changes.changed).append(number)
            self._seen.add(number)
        self.changes.blank += int(blank.sum())
        self._pending.clear()
        self._noted.clear()

    def _described(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows that could be read, int64 [n], descriptors [n, D], and the blank ones, bool [n]."""
        if not self._pending:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32), np.empty(0, bool)
        describer, report = self.model.describer, DescribeReport()
        paths = tuple(photo.place.path for photo in self._pending)
        images = ImageSet(tuple(map(str, paths)), paths)
        if self.store is not None:
            from niphash.descriptors.store.store import describe_to_store

            stored = describe_to_store(describer, images, self.store, report)
            rows = np.flatnonzero(stored.positions >= 0)
            self.changes.skipped += report.skipped
            return rows, stored[rows], stored.blank[rows]
        descriptors = np.full((len(images), describer.dim), np.nan, np.float32)
        readable, blank = np.zeros(len(images), bool), np.zeros(len(images), bool)
        for row, found, is_blank in describer.photos(images):
            if isinstance(found, Skipped):
                self.changes.skipped.append(found)
            else:
                descriptors[row], readable[row], blank[row] = found, True, is_blank
        rows = np.flatnonzero(readable)
        return rows, descriptors[rows], blank[rows]


def content_checksum(place: Place) -> bytes:
    """Return the 16 bytes that stand for a photo's file.

    Raises:
        UnreadableImage: it cannot be read.
    """
    return bytes.fromhex(ImageSet((str(place.path),), (place.path,)).checksum(0))


def forget(manifest: Manifest, codes: Index, entries: Sequence[Entry], features: Path) -> None:
    """Remove photos: name first, then code, then the local features that are kept of them."""
    if entries:
        with manifest.transaction():
            manifest.delete(entries)
        _remove_codes(codes, [entry.id for entry in entries if entry.coded])
        _forget_features(manifest, entries, features)


def _forget_features(manifest: Manifest, entries: Sequence[Entry], features: Path) -> None:
    """Delete the features of photos that were removed; another photo of the same content keeps them."""
    checksums = {entry.checksum for entry in entries}
    checksums -= {entry.checksum for entry in manifest.entries_of(checksums)}
    with writing(features, "delete it; it is computed again where it is needed"):
        remove_features(features, [checksum.hex() for checksum in checksums])


def reconcile(manifest: Manifest, codes: Index) -> None:
    """Remove codes of no photo, and forget photos without their code: what a kill or damage leaves."""
    if len(codes) == manifest.coded():
        return
    held, known = codes.ids, np.array(manifest.ids(coded_only=True), np.int64)
    _remove_codes(codes, np.setdiff1d(held, known).tolist())
    lost = np.setdiff1d(known, held).tolist()
    if lost:
        with manifest.transaction():
            manifest.delete(list(manifest.entries(lost).values()))


def _remove_codes(codes: Index, ids: Sequence[int]) -> None:
    if ids:
        codes.remove(np.array(ids, np.int64))


def _is_as_noted(entry: Entry, stat: os.stat_result) -> bool:
    same = (stat.st_size, stat.st_mtime_ns) == (entry.size, entry.mtime_ns)
    return same and entry.mtime_ns < entry.noted_ns - _UNSURE_NS
