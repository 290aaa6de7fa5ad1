"""A collection of photos that lives: opened, added to, searched, for years.

The folder holds ``photos.sqlite`` (:class:`Manifest`), ``codes`` (the index), ``model`` and, where the service took
some in, ``uploads``. What is in the manifest is in the index: a photo's code is written first and removed last. So a
kill leaves at most codes of no photo, which no search returns and the next writer removes.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from niphash.collection.answers import BLANK, Answer, Match
from niphash.collection.codes import create_codes, open_codes, writable_codes
from niphash.collection.manifest import REMEDY, Entry, Manifest
from niphash.data.images import Box, ImageSet, UnreadableImage
from niphash.descriptors.describer import DescribeReport, Skipped
from niphash.errors import InputError
from niphash.progress import track
from niphash.search.comparison import DistanceChoice, choose_distance, code_distances
from niphash.search.index import Index

if TYPE_CHECKING:
    from niphash.descriptors.store.store import DescriptorStore
    from niphash.model import Model

MANIFEST, CODES, MODEL, UPLOADS, LOCK = "photos.sqlite", "codes", "model", "uploads", "lock"
#: Photos written at a time: what a kill can lose.
BATCH = 256
#: Queries searched at a time.
QUERIES = 64
#: A file modified so shortly before it was read may have changed again without a sign.
_UNSURE_NS = 2 * 10**9


@dataclass
class Changes:
    """What adding to a collection did.

    Attributes:
        added: Ids of photos that are new.
        changed: New ids of photos whose content changed; their former ids are gone.
        removed: Ids of photos that were removed, since their files are gone.
        unchanged: Number of photos that were as the collection knows them.
        gone: Ids that are still held although their files are gone.
        blank: Number of photos among the added and changed without any local descriptor; they match nothing.
        skipped: Photos that could not be read.
    """

    added: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    unchanged: int = 0
    gone: list[int] = field(default_factory=list)
    blank: int = 0
    skipped: list[Skipped] = field(default_factory=list)


class Place(NamedTuple):
    """Where a photo lies: its root, its name below it, and the two together."""

    root: Path
    name: bytes
    path: Path


class _Pending(NamedTuple):
    """A photo that is to be described."""

    root: int
    name: bytes
    path: Path
    checksum: bytes
    stat: os.stat_result
    noted_ns: int
    former: Entry | None

    def entry(self, number: int, coded: bool) -> Entry:
        """Return it as a photo of the collection."""
        size, mtime = self.stat.st_size, self.stat.st_mtime_ns
        return Entry(number, self.root, self.name, self.checksum, size, mtime, self.noted_ns, coded)


class Collection:
    """Photos, their codes and the model, in a folder.

    Any number of processes may read while one writes. A method that writes holds the folder's lock as long as it
    runs; readers take note of what others wrote at their next search.

    Args:
        folder: Made by :meth:`create` or ``niphash index``.

    Raises:
        InputError: it is no collection, or a damaged one, or of a newer format.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if (self.folder / "photos.json").is_file() and not (self.folder / MANIFEST).exists():
            raise InputError(f"{folder}: an index of an earlier niphash; make it again with niphash index")
        self.manifest = Manifest(self.folder / MANIFEST)
        self.bits = self._checked_bits()
        self._changing, self._opening = RLock(), RLock()  # of writers; of what is opened when it is needed
        self._model: Model | None = None
        self._codes: Index | None = None
        self._roots: dict[int, Path] | None = None

    @classmethod
    def create(cls, folder: Path | str, model: "Model") -> "Collection":
        """Make an empty collection with a copy of ``model``, and open it.

        Raises:
            InputError: the model makes no codes; the folder holds something else, or cannot be written.
        """
        folder = Path(folder)
        if not model.bits:
            raise InputError("this model makes no codes (hashing=none); train one with hashing=rbm_stack")
        _make_folder(folder)
        with _writer_lock(folder):
            if not (folder / MANIFEST).exists():
                part = folder / f"{MODEL}.part"
                for leftover in (part, folder / MODEL, folder / CODES):
                    shutil.rmtree(leftover, ignore_errors=True)
                model.save(part).rename(folder / MODEL)
                create_codes(folder / CODES, model.bits)
                made = str(int(time.time()))
                facts = {"bits": str(model.bits), "model": _model_digest(folder / MODEL), "made": made}
                Manifest.create(folder / MANIFEST, {**facts, "changed": made}).close()
        return cls(folder)

    def close(self) -> None:
        """Release the files."""
        self.manifest.close()

    def __enter__(self) -> "Collection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.manifest)

    @property
    def model(self) -> "Model":
        """The model that made the codes, loaded at first use.

        Raises:
            InputError: it is missing, damaged, or another one.
        """
        with self._opening:
            if self._model is None:
                from niphash.model import load

                self._model = load(self.folder / MODEL)
                if (
                    _model_digest(self.folder / MODEL) != self.manifest.fact("model")
                    or self._model.bits != self.bits
                ):
                    raise InputError(f"{self.folder / MODEL}: not the model that made this index; {REMEDY}")
            return self._model

    @property
    def codes(self) -> Index:
        """The index, opened at first use and again after others wrote."""
        with self._opening:
            if self._codes is None or self.manifest.changed():
                self._codes = open_codes(self.folder / CODES, self.bits)
                self._roots = None
            return self._codes

    @property
    def roots(self) -> dict[int, Path]:
        """The folders that photos were found in, by number, as absolute paths."""
        with self._opening:
            if self._roots is None:
                self._roots = {number: self._absolute(path) for number, path in self.manifest.roots().items()}
            return self._roots

    def location(self, entry: Entry) -> Path:
        """Return where a photo is."""
        if entry.root not in self.roots:
            raise InputError(f"{self.manifest.path}: photo {entry.id} lies in no root; {REMEDY}")
        return self.roots[entry.root] / os.fsdecode(entry.name)

    def path(self, number: int) -> Path:
        """Return where the photo of an id is.

        Raises:
            InputError: the collection does not hold it.
        """
        return self.location(self._entry(number))

    # -- asking -------------------------------------------------------------------------------------------------

    def search(
        self,
        photo: Any,
        k: int | None = None,
        within: float | None = None,
        distance: DistanceChoice = "auto",
        box: Box | None = None,
    ) -> list[Match]:
        """Return the photos that look like ``photo``, nearest first, equal distances by id.

        Args:
            photo: A file, a PIL image, an RGB array [H, W, 3], or the id of a photo of this collection.
            k: At most how many; 10 when neither it nor ``within`` is given.
            within: Only those not farther than this many bits.
            distance: Between codes, see :func:`niphash.search.comparison.choose_distance`.
            box: Ask with this part of the photo.

        Raises:
            InputError: the photo cannot be read, has no local descriptor, or an option means nothing.
        """
        from niphash.data.images import as_image_set

        if isinstance(photo, int | np.integer) and not isinstance(photo, bool):
            answer = self.search_held(int(photo), k, within, distance, box)
        else:
            (answer,) = self.answers(as_image_set(photo), k, within, distance, box)
        if answer.problem is not None:
            raise InputError(f"{answer.query}: {answer.problem}")
        return list(answer.matches)

    def answers(
        self,
        images: ImageSet,
        k: int | None = None,
        within: float | None = None,
        distance: DistanceChoice = "auto",
        box: Box | None = None,
    ) -> Iterator[Answer]:
        """Yield for each photo, in order, what looks like it; arguments as of :meth:`search`.

        A photo that cannot be read, or has no local descriptor, is answered by its problem.
        """
        check_reach(k, within)
        queries = images if box is None else ImageSet(images.ids, images.sources, (box,) * len(images))
        waiting: list[tuple[int, np.ndarray | str]] = []
        described = sorted_rows(self.model.describer.photos(queries), len(queries))
        for row, found, blank in track(described, "search", len(queries)):
            waiting.append((row, found.reason if isinstance(found, Skipped) else BLANK if blank else found))
            if len(waiting) == QUERIES or row == len(queries) - 1:
                yield from self._answers(images, waiting, k, within, distance)
                waiting.clear()

    def search_held(
        self,
        number: int,
        k: int | None = None,
        within: float | None = None,
        distance: DistanceChoice = "auto",
        box: Box | None = None,
    ) -> Answer:
        """Return what looks like a photo of the collection, by its code alone where that suffices.

        Raises:
            InputError: the collection does not hold the photo; or an option means nothing.
        """
        entry = self._entry(number)
        path = self.location(entry)
        if box is not None or choose_distance(self.model.hasher, distance) != "hamming":
            (answer,) = self.answers(ImageSet((str(path),), (path,)), k, within, distance, box)
            return answer
        check_reach(k, within)
        if not entry.coded:
            return Answer(str(path), problem=BLANK)
        near = self._near_codes(self.codes.get(np.array([number])), k, within)
        return Answer(str(path), self._matches(near[0], entry.checksum, _most(k, within)))

    # -- changing -----------------------------------------------------------------------------------------------

    def add(self, paths: Any, store: "DescriptorStore | None" = None) -> Changes:
        """Add photos, files or folders; those that are held are looked at again and nothing is removed.

        A file belongs to the innermost root that contains it; where there is none its folder becomes one.

        Args:
            paths: One path or several.
            store: Where described photos are looked up and kept.

        Raises:
            InputError: a path does not exist, or another process is writing.
        """
        paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        folders = [Path(p) for p in paths if Path(p).is_dir()]
        changes = self.update(folders, store=store) if folders else Changes()
        files = [Path(p).parent.resolve() / Path(p).name for p in paths if not Path(p).is_dir()]
        if missing := [path for path in files if not path.is_file()]:
            raise InputError(f"{missing[0]}: no such file; name photos or folders of photos")
        if files:
            homes = sorted(self.roots.values(), key=_depth)
            self._bring_in([_place(path, [path.parent, *homes]) for path in files], [], False, store, changes)
        return changes

    def update(
        self, folders: Sequence[Path | str], prune: bool = False, store: "DescriptorStore | None" = None
    ) -> Changes:
        """Bring the collection up to what the folders hold: new photos are added, changed ones described again.

        Killed at any moment, the same call goes on where it was.

        Args:
            folders: Each becomes a root, unless it lies inside one.
            prune: Also remove the photos below these folders whose files are gone.
            store: Where described photos are looked up and kept.

        Raises:
            InputError: a folder is missing or holds no photo; another process is writing.
        """
        own = self.folder.resolve()
        found: dict[Path, Place] = {}
        scopes: list[tuple[Path, bytes]] = []
        known = list(self.roots.values())
        for folder in folders:
            top = Path(folder).resolve()
            images = ImageSet.from_folder(top)
            around = [root for root in known if top.is_relative_to(root)]
            home = max(around, key=_depth, default=top)
            known += [] if around else [top]
            inner = sorted((root for root in known if root != top and root.is_relative_to(top)), key=_depth)
            scopes += [(home, b"" if home == top else os.fsencode(top.relative_to(home)) + b"/")]
            scopes += [(root, b"") for root in inner if root != own / UPLOADS]
            for path in images.sources:
                assert isinstance(path, Path)
                if (
                    own not in path.parents
                ):  # pictures inside the collection are no photos of the folder around it
                    found[path] = _place(path, [home, *inner])
        changes = Changes()
        self._bring_in(list(found.values()), scopes, prune, store, changes)
        return changes

    def keep(self, photo: Path, suffix: str) -> Changes:
        """Take in a copy of a photo; it lies in the collection's own folder from then on.

        Args:
            photo: Its file.
            suffix: Of the copy, such as ``.jpg``.

        Raises:
            InputError: the folder cannot be written, or another process is writing.
        """
        content = photo.read_bytes()
        home = self.folder / UPLOADS
        kept = home / f"{hashlib.blake2b(content, digest_size=16).hexdigest()}{suffix}"
        try:
            home.mkdir(exist_ok=True)
            if not kept.exists():
                part = home / f".{kept.name}.{os.getpid()}.part"
                part.write_bytes(content)
                part.rename(kept)
        except OSError as error:
            raise InputError(f"{home}: cannot be written ({error.strerror})") from error
        changes = Changes()
        place = Place(Path(UPLOADS), os.fsencode(kept.name), kept)
        self._bring_in([place], [], False, None, changes)
        if changes.skipped:
            kept.unlink(missing_ok=True)
        return changes

    def remove(self, ids: Iterable[int]) -> None:
        """Forget photos; files that the collection keeps itself are deleted, all others are left alone.

        Raises:
            InputError: an id is not held (nothing is removed then); another process is writing.
        """
        numbers = list(dict.fromkeys(int(number) for number in ids))
        with self._writing() as (manifest, codes):
            entries = manifest.entries(numbers)
            if missing := [number for number in numbers if number not in entries]:
                raise InputError(f"photo {missing[0]} is not in {self.folder}; niphash search names the ids")
            _forget(manifest, codes, list(entries.values()))
            for entry in entries.values():
                if self.roots.get(entry.root) == (self.folder / UPLOADS).absolute():
                    self.location(entry).unlink(missing_ok=True)

    def move(self, old: Path | str, new: Path | str) -> int:
        """Say that a root is elsewhere now and return how many photos it has.

        Raises:
            InputError: ``old`` is no root, or ``new`` holds none of its photos.
        """
        former, present = Path(os.path.abspath(old)), Path(new).resolve()
        numbers = [n for n, root in self.roots.items() if root in (former, former.resolve())]
        if not numbers:
            known = ", ".join(str(root) for root in self.roots.values())
            raise InputError(f"{old}: no root of {self.folder}; its roots are {known}")
        if present in self.roots.values():
            raise InputError(f"{new}: a root of {self.folder} already")
        with self._writing() as (manifest, _):
            names = manifest.under(numbers[0])
            if not any((present / os.fsdecode(name)).exists() for _, name in names[:1000]):
                raise InputError(
                    f"{new}: holds none of the photos of {old}; name the folder that they are in now"
                )
            with manifest.transaction():
                manifest.move_root(numbers[0], present)
        return len(names)

    def check(self) -> list[str]:
        """Read every byte of manifest, codes and model, and return what the photos' files lack, in words.

        Raises:
            InputError: something is damaged; names the file.
        """
        self.manifest.check()
        _ = self.model
        codes = open_codes(self.folder / CODES, self.bits, check=True)
        held, known = set(codes.ids.tolist()), set(self.manifest.ids(coded_only=True))
        if known - held:
            raise InputError(
                f"{self.folder / CODES}: photo {min(known - held)} has no code; "
                "run niphash index on its folder again to mend it"
            )
        notes = (
            [f"{len(held - known)} codes of a killed run, which the next one removes"] if held - known else []
        )
        missing = changed = 0
        for entry in self.manifest.all():
            try:
                stat = self.location(entry).stat()
                changed += (stat.st_size, stat.st_mtime_ns) != (entry.size, entry.mtime_ns)
            except OSError:
                missing += 1
        notes += [f"{missing} photos are gone from their folders"] if missing else []
        notes += [f"{changed} photos were modified since they were indexed"] if changed else []
        return notes

    # -- inside -------------------------------------------------------------------------------------------------

    def _bring_in(
        self,
        places: list[Place],
        scopes: list[tuple[Path, bytes]],
        prune: bool,
        store: "DescriptorStore | None",
        changes: Changes,
    ) -> None:
        with self._writing() as (manifest, codes):
            with manifest.transaction():
                homes = {*(place.root for place in places), *(root for root, _ in scopes)}
                numbers = {home: manifest.add_root(home) for home in sorted(homes)}
            seen: set[int] = set()
            pending: list[_Pending] = []
            noted: list[Entry] = []
            for place in track(places, "look up", len(places)):
                self._look_at(manifest, place, numbers[place.root], seen, pending, noted, changes)
                if len(pending) == BATCH or len(noted) == 16 * BATCH:
                    self._write(manifest, codes, pending, noted, store, changes)
            self._write(manifest, codes, pending, noted, store, changes)
            seen.update(changes.added, changes.changed)
            gone = [
                n
                for home, prefix in scopes
                for n, _ in manifest.under(numbers[home], prefix)
                if n not in seen
            ]
            gone = sorted(set(gone))
            if prune and gone:
                _forget(manifest, codes, list(manifest.entries(gone).values()))
                changes.removed += gone
            else:
                changes.gone += gone

    def _look_at(
        self,
        manifest: Manifest,
        place: Place,
        root: int,
        seen: set[int],
        pending: list[_Pending],
        noted: list[Entry],
        changes: Changes,
    ) -> None:
        """Append the photo to ``pending`` if it is to be described, to ``noted`` if its file alone has changed."""
        former = manifest.at(root, place.name)
        if former is not None:
            seen.add(former.id)
        try:
            stat, now = place.path.stat(), time.time_ns()
            if former is not None and _is_as_noted(former, stat):
                changes.unchanged += 1
                return
            checksum = bytes.fromhex(ImageSet((str(place.path),), (place.path,)).checksum(0))
        except (OSError, UnreadableImage) as error:
            reason = (
                error.reason if isinstance(error, UnreadableImage) else f"cannot be read ({error.strerror})"
            )
            changes.skipped.append(Skipped(-1, str(place.path), reason))
            return
        if former is not None and former.checksum == checksum:
            noted.append(former._replace(size=stat.st_size, mtime_ns=stat.st_mtime_ns, noted_ns=now))
            changes.unchanged += 1
        else:
            pending.append(_Pending(root, place.name, place.path, checksum, stat, now, former))

    def _write(
        self,
        manifest: Manifest,
        codes: Index,
        pending: list[_Pending],
        noted: list[Entry],
        store: "DescriptorStore | None",
        changes: Changes,
    ) -> None:
        """Describe photos and enter them: code first, then name; a former code goes last. Both lists are emptied."""
        rows, descriptors, blank = self._described(pending, store, changes.skipped)
        photos, coded = [pending[row] for row in rows], ~blank
        former = [photo.former for photo in photos if photo.former is not None]
        with manifest.transaction():
            ids = np.array(manifest.reserve(len(rows)), np.int64)
            if coded.any():
                codes.add(self.model.hasher.encode(descriptors[coded]), ids[coded])
            manifest.delete(former)
            manifest.add([p.entry(*of) for p, *of in zip(photos, ids.tolist(), coded.tolist(), strict=True)])
            manifest.note(noted)
        _remove_codes(codes, [entry.id for entry in former if entry.coded])
        for number, photo in zip(ids.tolist(), photos, strict=True):
            (changes.added if photo.former is None else changes.changed).append(number)
        changes.blank += int(blank.sum())
        pending.clear()
        noted.clear()

    def _described(
        self, pending: list[_Pending], store: "DescriptorStore | None", skipped: list[Skipped]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows that could be read, int64 [n], their descriptors [n, D], and which are blank, bool [n]."""
        if not pending:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32), np.empty(0, bool)
        describer = self.model.describer
        images = ImageSet(tuple(str(p.path) for p in pending), tuple(p.path for p in pending))
        if store is not None:
            from niphash.descriptors.store.store import describe_to_store

            report = DescribeReport()
            stored = describe_to_store(describer, images, store, report)
            skipped += report.skipped
            rows = np.flatnonzero(stored.positions >= 0)
            return rows, stored[rows], store.blank(stored.positions[rows])
        rows_, descriptors, blanks = [], [], []
        for row, found, blank in describer.photos(images):
            if isinstance(found, Skipped):
                skipped.append(found)
            else:
                rows_.append(row)
                descriptors.append(found)
                blanks.append(blank)
        stacked = np.stack(descriptors) if descriptors else np.empty((0, describer.dim), np.float32)
        return np.array(rows_, np.int64), stacked, np.array(blanks, bool)

    @contextmanager
    def _writing(self) -> Iterator[tuple[Manifest, Index]]:
        """Hold the lock; what a killed writer left is put in order first."""
        with self._changing, _writer_lock(self.folder):
            manifest = Manifest(self.folder / MANIFEST, write=True)
            try:
                with writable_codes(self.folder / CODES, self.bits) as codes:
                    _reconcile(manifest, codes)
                    yield manifest, codes
            finally:
                manifest.close()
                with self._opening:
                    self._codes = self._roots = None

    def _answers(
        self,
        images: ImageSet,
        rows: list[tuple[int, np.ndarray | str]],
        k: int | None,
        within: float | None,
        distance: DistanceChoice,
    ) -> Iterator[Answer]:
        described = [found for _, found in rows if not isinstance(found, str)]
        near = iter(self._near(np.stack(described), k, within, distance) if described else ())
        most = _most(k, within)
        for row, found in rows:
            if isinstance(found, str):
                yield Answer(images.ids[row], problem=found, readable=found == BLANK)
            else:
                checksum = _content_checksum(images, row)
                yield Answer(images.ids[row], self._matches(next(near), checksum, most))

    def _near(
        self, descriptors: np.ndarray, k: int | None, within: float | None, distance: DistanceChoice
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each of descriptors [Q, D] distances [n] and ids int64 [n]."""
        from niphash.hashing.signs import SignHasher

        hasher = self.model.hasher
        if choose_distance(hasher, distance) == "hamming":
            return self._near_codes(hasher.encode(descriptors), k, within)
        if isinstance(hasher, SignHasher):
            return self._near_codes(hasher.project(descriptors), k, within, "asymmetric")
        return self._near_compared(descriptors, k, within)

    def _near_codes(
        self, queries: np.ndarray, k: int | None, within: float | None, distance: Any = "hamming"
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        codes = self.codes
        extra = max(0, len(codes) - self.manifest.coded())  # codes of a killed run may be among the nearest
        most = _most(k, within)
        limit = None if most is None else most + extra
        if within is not None:
            found = codes.range_search(queries, within, limit, distance)
            spans = [slice(found.offsets[q], found.offsets[q + 1]) for q in range(len(queries))]
            return [(found.distances[span], found.ids[span]) for span in spans]
        assert limit is not None
        at, ids = codes.search(queries, limit, distance)
        return [(a[i >= 0], i[i >= 0]) for a, i in zip(at, ids, strict=True)]

    def _near_compared(
        self, descriptors: np.ndarray, k: int | None, within: float | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Do the same for a distance that no index knows (product quantisation), comparing every code."""
        from niphash.search.exact import search_exhaustively

        ids = self.codes.ids
        distances = code_distances(self.model.hasher, descriptors, self.codes.get(ids), distance="asymmetric")
        most = _most(k, within)
        at, rows = search_exhaustively(distances, max(1, len(ids) if most is None else min(len(ids), most)))
        kept = (rows >= 0) & (True if within is None else at <= within)
        return [(a[keep], ids[r[keep]]) for a, r, keep in zip(at, rows, kept, strict=True)]

    def _matches(
        self, near: tuple[np.ndarray, np.ndarray], checksum: bytes | None, most: int | None
    ) -> tuple[Match, ...]:
        """Return what was found, with names; codes of no photo (left by a kill) are no matches."""
        entries = self.manifest.entries(near[1].tolist())
        held = [(at, n) for at, n in zip(near[0].tolist(), near[1].tolist(), strict=True) if n in entries][
            :most
        ]
        return tuple(
            Match(n, self.location(entries[n]), at, entries[n].checksum == checksum) for at, n in held
        )

    def _entry(self, number: int) -> Entry:
        entry = self.manifest.entries([number]).get(number)
        if entry is None:
            raise InputError(f"photo {number} is not in {self.folder}; niphash search names the ids")
        return entry

    def _absolute(self, path: Path) -> Path:
        if not path.is_absolute() and path != Path(UPLOADS):
            raise InputError(f"{self.manifest.path}: a root that is no absolute path; {REMEDY}")
        return path if path.is_absolute() else (self.folder / path).absolute()

    def _checked_bits(self) -> int:
        bits = self.manifest.fact("bits")
        if not bits.isdecimal() or not 0 < int(bits) <= 2**16 or int(bits) % 8:
            raise InputError(f"{self.manifest.path}: no code length; {REMEDY}")
        return int(bits)


def check_reach(k: int | None, within: float | None) -> None:
    """Refuse numbers of results, or distances, that mean nothing."""
    if k is not None and k < 1:
        raise InputError(f"k={k}: ask for at least one photo")
    if within is not None and not within >= 0:
        raise InputError(f"within={within}: give a number of bits, 0 or more")


def _most(k: int | None, within: float | None) -> int | None:
    """Return how many matches are wanted at most; all within reach where only that was given."""
    return None if k is None and within is not None else k or 10


def check_same_model(collection: Collection, model: "Model") -> None:
    """Refuse a model that is not the collection's own."""
    with tempfile.TemporaryDirectory() as folder:
        if _model_digest(model.save(Path(folder) / MODEL)) != collection.manifest.fact("model"):
            raise InputError(
                f"{collection.folder}: made with another model; leave --model away, or name a new folder with --out"
            )


def sorted_rows(
    photos: Iterable[tuple[int, np.ndarray | Skipped, bool]], count: int
) -> Iterator[tuple[int, np.ndarray | Skipped, bool]]:
    """Yield what describing gave in order of rows; a describer names the unreadable of a batch after the others."""
    early: dict[int, tuple[int, np.ndarray | Skipped, bool]] = {}
    following = 0
    for photo in photos:
        early[photo[0]] = photo
        while following in early:
            yield early.pop(following)
            following += 1
    assert following == count, f"{following} of {count} photos were described"


def _is_as_noted(entry: Entry, stat: os.stat_result) -> bool:
    same = (stat.st_size, stat.st_mtime_ns) == (entry.size, entry.mtime_ns)
    return same and entry.mtime_ns < entry.noted_ns - _UNSURE_NS


def _content_checksum(images: ImageSet, row: int) -> bytes | None:
    """Return the checksum of a query's file; a picture in memory has none."""
    if not isinstance(images.sources[row], Path):
        return None
    try:
        return bytes.fromhex(ImageSet((images.ids[row],), (images.sources[row],)).checksum(0))
    except UnreadableImage:
        return None


def _place(path: Path, homes: list[Path]) -> Place:
    """Return where a file is, from the innermost of ``homes`` (outermost first) that contains it."""
    home = next(home for home in reversed(homes) if path.is_relative_to(home))
    return Place(home, os.fsencode(path.relative_to(home)), path)


def _depth(path: Path) -> int:
    return len(path.parts)


def _forget(manifest: Manifest, codes: Index, entries: list[Entry]) -> None:
    with manifest.transaction():
        manifest.delete(entries)
    _remove_codes(codes, [entry.id for entry in entries if entry.coded])


def _remove_codes(codes: Index, ids: list[int]) -> None:
    if ids:
        codes.remove(np.array(ids, np.int64))


def _reconcile(manifest: Manifest, codes: Index) -> None:
    """Remove codes of no photo, and forget photos without their code: both are what a kill or damage leaves."""
    if len(codes) == manifest.coded():
        return
    held, known = codes.ids, np.array(manifest.ids(coded_only=True), np.int64)
    _remove_codes(codes, np.setdiff1d(held, known).tolist())
    if len(lost := np.setdiff1d(known, held)):
        with manifest.transaction():
            manifest.delete(list(manifest.entries(lost).values()))


def _model_digest(folder: Path) -> str:
    """Return what tells models apart: 32 hexadecimal digits over configuration and tensors."""
    digest = hashlib.blake2b(digest_size=16)
    for name in ("config.yaml", "describer.safetensors", "hasher.safetensors"):
        try:
            digest.update(hashlib.blake2b((folder / name).read_bytes()).digest())
        except OSError as error:
            raise InputError(f"{folder / name}: missing; {REMEDY}") from error
    return digest.hexdigest()


def _make_folder(folder: Path) -> None:
    ours = {MANIFEST, f"{MANIFEST}.part", CODES, MODEL, f"{MODEL}.part", UPLOADS, LOCK}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted({path.name for path in folder.iterdir()} - ours)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder of an index ({error.strerror})") from error
    if foreign:
        raise InputError(f"{folder}: holds other files ({foreign[0]}); name a new folder with --out")


@contextmanager
def _writer_lock(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise InputError(
            f"{folder}: another process is changing this index; try again when it is done"
        ) from error
    except PermissionError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error
    except OSError as error:
        if error.filename is not None and not str(error.filename).startswith(str(folder)):
            raise
        raise InputError(f"{folder}: cannot be written ({error.strerror}); the index is as it was") from error
