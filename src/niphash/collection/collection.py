"""A collection of photos that lives: opened, added to, searched, for years."""

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from niphash.collection.answers import BLANK, Answer, Match
from niphash.collection.changes import Changes, Update, forget, reconcile
from niphash.collection.codes import HERE, Workers, create_codes, open_codes, writable_codes
from niphash.collection.manifest import REMEDY, Entry, Manifest
from niphash.collection.nearness import Near, Reach, near_codes, near_descriptors
from niphash.collection.parts import (
    CODES,
    FEATURES,
    FORMER_MANIFEST,
    MANIFEST,
    MODEL,
    UPLOADS,
    copy_model,
    digests,
    digests_of,
    make_folder,
    writer_lock,
)
from niphash.collection.places import Finds, Place, photos_below, place
from niphash.collection.reranking import Reranking, new_reranking
from niphash.data.images import Box, ImageSet, UnreadableImage, as_image_set
from niphash.descriptors.describer import Skipped
from niphash.errors import InputError
from niphash.evaluation.calibration import Calibration, usual_prior
from niphash.model import CONFIG, RECORD, Model, load
from niphash.progress import track
from niphash.search.comparison import DistanceChoice, choose_distance, distance_ratios
from niphash.search.index import Index

if TYPE_CHECKING:
    from niphash.descriptors.store.store import DescriptorStore

#: Queries searched at a time.
QUERIES = 64
#: Photos of a root that are looked for where it is said to be now.
_LOOKED_FOR = 1000
#: Photos that a ratio needs beside the query itself and the one that was asked for.
_NEAREST = 2


class Collection:
    """Photos, their codes and the model, in a folder.

    It holds ``photos.sqlite`` (:class:`Manifest`), ``codes`` (the index), ``model`` and, where the service
    took some in, ``uploads``. Any number of processes may read while one writes. A method that writes holds
    the folder's lock as long as it runs; readers take note of what others wrote at their next search.

    Args:
        folder: Made by :meth:`create` or ``niphash index``.
        workers: Who holds the codes.

    Raises:
        InputError: it is no collection, or a damaged one, or of a newer format.
    """

    def __init__(self, folder: Path | str, workers: Workers = HERE) -> None:
        self.folder, self._workers = Path(folder), workers
        if (self.folder / FORMER_MANIFEST).is_file() and not (self.folder / MANIFEST).exists():
            raise InputError(f"{folder}: an index of an earlier niphash; make it again with niphash index")
        self.manifest = Manifest(self.folder / MANIFEST)
        self.bits = self._checked_bits()
        self._changing, self._opening = RLock(), RLock()  # of writers; of what is opened when it is needed
        self._model: Model | None = None
        self._codes: Index | None = None
        self._roots: dict[int, Path] | None = None
        self._rerankings: dict[str, Reranking | None] = {}

    @classmethod
    def create(cls, folder: Path | str, model: Model, workers: Workers = HERE) -> "Collection":
        """Make an empty collection with a copy of ``model``, and open it.

        Raises:
            InputError: the model makes no codes; the folder holds something else, or cannot be written.
        """
        folder = Path(folder)
        if not model.bits:
            raise InputError("this model makes no codes (hashing=none); train one with hashing=rbm_stack")
        make_folder(folder)
        with writer_lock(folder):
            if not (folder / MANIFEST).exists():
                create_codes(folder / CODES, model.bits, workers)
                made = str(int(time.time()))
                facts = {"bits": str(model.bits), **copy_model(model, folder), "made": made}
                Manifest.create(folder / MANIFEST, {**facts, "changed": made}).close()
        return cls(folder, workers)

    def close(self) -> None:
        """Release the files, and the workers."""
        with self._opening:
            if self._codes is not None:
                self._codes.close()
                self._codes = None
        self.manifest.close()

    def __enter__(self) -> "Collection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.manifest)

    @property
    def model(self) -> Model:
        """The model that made the codes, loaded at first use.

        Raises:
            InputError: it is missing, damaged, or another one.
        """
        with self._opening:
            if self._model is None:
                if not (self.folder / MODEL / CONFIG).is_file():
                    raise InputError(f"{self.folder / MODEL}: the index has lost its model; {REMEDY}")
                model = load(self.folder / MODEL)
                if digests(self.folder / MODEL)["model"] != self.manifest.fact("model"):
                    raise InputError(f"{self.folder / MODEL}: not the model that made this index; {REMEDY}")
                self._model = model
            return self._model

    def check_model(self, model: Model) -> None:
        """Refuse a model that is not the one that made the codes."""
        if digests_of(model)["model"] != self.manifest.fact("model"):
            raise InputError(
                f"{self.folder}: made with another model; leave --model away, or name a new folder with --out"
            )

    @property
    def codes(self) -> Index:
        """The index, opened at first use and again after others wrote."""
        with self._opening:
            if self.manifest.changed() or self._codes is None:
                self._roots = None
                self._codes = open_codes(self.folder / CODES, self.bits, self._workers)
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

    def location_inside(self, entry: Entry) -> Path:
        """Return where a photo is, for those who may see nothing but what lies below the roots.

        Raises:
            UnreadableImage: it lies elsewhere, by a link.
        """
        path = self.location(entry)
        if not path.resolve().is_relative_to(self.roots[entry.root].resolve()):
            raise UnreadableImage(str(path), "lies outside its folder")
        return path

    def path(self, number: int) -> Path:
        """Return where the photo of an id is.

        Raises:
            InputError: the collection does not hold it.
        """
        return self.location(self.entry(number))

    def entry(self, number: int) -> Entry:
        """Return what is known of the photo of an id.

        Raises:
            InputError: the collection does not hold it.
        """
        entry = self.manifest.entries([number]).get(number)
        if entry is None:
            raise InputError(f"photo {number} is not in {self.folder}; niphash search names the ids")
        return entry

    def search(
        self,
        photo: Any,
        k: int | None = None,
        within: float | None = None,
        distance: DistanceChoice = "auto",
        box: Box | None = None,
        rerank: str = "none",
    ) -> list[Match]:
        """Return the photos that look like ``photo``, nearest first, equal distances by id.

        Args:
            photo: A file, a PIL image, an RGB array [H, W, 3], or the id of a photo of this collection.
            k: At most how many; 10 when neither it nor ``within`` is given.
            within: Only those not farther than this many bits.
            distance: Between codes, see :func:`niphash.search.comparison.choose_distance`.
            box: Ask with this part of the photo.
            rerank: How the first results are ordered anew, a name of ``conf/rerank``.

        Raises:
            InputError: the photo cannot be read, has no local descriptor, or an option means nothing.
        """
        reach = Reach(k, within, distance)
        if isinstance(photo, int | np.integer) and not isinstance(photo, bool):
            answer = self.answer_for(int(photo), reach, box, self.reranking(rerank))
        else:
            (answer,) = self.answers(as_image_set(photo), reach, box, self.reranking(rerank))
        if answer.problem is not None:
            raise InputError(f"{answer.query}: {answer.problem}")
        return list(answer.matches)

    def reranking(self, name: str) -> Reranking | None:
        """Return a re-ranking by its name in ``conf/rerank``, ``None`` for ``none``; made at first use.

        Raises:
            InputError: there is none of that name.
        """
        with self._opening:
            if name not in self._rerankings:
                self._rerankings[name] = new_reranking(name, self.folder / FEATURES, self.model.describer)
            return self._rerankings[name]

    def answers(
        self, images: ImageSet, reach: Reach, box: Box | None = None, reranking: Reranking | None = None
    ) -> Iterator[Answer]:
        """Yield for each photo, in order, what looks like it.

        A photo that cannot be read, or has no local descriptor, is answered by its problem.

        Args:
            images: The queries.
            reach: How much is wanted.
            box: Ask with this part of every photo.
            reranking: How the first matches are ordered anew; ``None`` leaves them as they are.
        """
        reach.check()
        choose_distance(self.model.hasher, reach.distance)
        queries = images if box is None else ImageSet(images.ids, images.sources, (box,) * len(images))
        waiting: list[tuple[int, np.ndarray | str]] = []
        described = _in_order(self.model.describer.photos(queries))
        if len(queries) > 1:
            described = track(described, "search", len(queries))
        for row, found, blank in described:
            waiting.append((row, found.reason if isinstance(found, Skipped) else BLANK if blank else found))
            if len(waiting) == QUERIES or row == len(queries) - 1:
                yield from self._answers(queries, waiting, reach, reranking)
                waiting.clear()

    def answer_for(
        self, number: int, reach: Reach, box: Box | None = None, reranking: Reranking | None = None
    ) -> Answer:
        """Return what looks like a photo of the collection, by its code alone where that suffices.

        Arguments as of :meth:`answers`.

        Raises:
            InputError: the collection does not hold the photo; or an option means nothing.
        """
        entry = self.entry(number)
        path = self.location(entry)
        by_code = box is None and reranking is None
        if not by_code or choose_distance(self.model.hasher, reach.distance) != "hamming":
            (answer,) = self.answers(ImageSet((str(path),), (path,)), reach, box, reranking)
            return answer
        reach.check()
        if not entry.coded:
            return Answer(str(path), problem=BLANK)
        (near,) = near_codes(self.codes, self.codes.get(np.array([number])), reach, self._extra() + _NEAREST)
        matches = self._matches(near, entry.checksum, reach.distance)
        return Answer(str(path), matches[: reach.most], ratio=_ratio(matches))

    def add(self, paths: Any, store: "DescriptorStore | None" = None) -> Changes:
        """Add photos, files or folders; those that are held are looked at again and nothing is removed.

        A file belongs to the innermost root that contains it; where there is none its folder becomes one.

        Args:
            paths: One path or several.
            store: Where described photos are looked up and kept.

        Raises:
            InputError: a path does not exist, or another process is writing.
        """
        given = [Path(p) for p in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
        files = [path.parent.resolve() / path.name for path in given if not path.is_dir()]
        if missing := [path for path in files if not path.is_file()]:
            raise InputError(f"{missing[0]}: no such file; name photos or folders of photos")
        roots = list(self.roots.values())
        finds = photos_below([path for path in given if path.is_dir()], roots, self.folder.resolve())
        places = (*finds.places, *(place(path, roots) for path in files))
        return self._update(Finds(places, finds.scopes, finds.surveys), False, store)

    def update(
        self, folders: Sequence[Path | str], prune: bool = False, store: "DescriptorStore | None" = None
    ) -> Changes:
        """Bring the collection up to what the folders hold: new photos are added, changed ones updated.

        Killed at any moment, the same call goes on where it was.

        Args:
            folders: Each becomes a root, unless it lies inside one.
            prune: Also remove the photos below these folders whose files are gone.
            store: Where described photos are looked up and kept.

        Raises:
            InputError: a folder is missing or holds no photo; another process is writing.
        """
        return self._update(
            photos_below(folders, list(self.roots.values()), self.folder.resolve()), prune, store
        )

    def keep(self, photo: Path, suffix: str) -> tuple[int, bool]:
        """Take in a copy of a photo, which lies in the collection's own folder from then on.

        Args:
            photo: Its file.
            suffix: Of the copy, such as ``.jpg``.

        Returns:
            Its id, and whether it is new; a photo of the same content that is held already is enough.

        Raises:
            UnreadableImage: it is no photo.
            InputError: the folder cannot be written, or another process is writing.
        """
        content = photo.read_bytes()
        checksum = hashlib.blake2b(content, digest_size=16)
        home = self.folder / UPLOADS
        kept = home / f"{checksum.hexdigest()}{suffix}"
        with self._writing() as (manifest, codes):
            if known := manifest.entries_of([checksum.digest()]):
                return known[0].id, False
            try:
                home.mkdir(exist_ok=True)
                part = home / f".{kept.name}.part"
                part.write_bytes(content)
                part.rename(kept)
            except OSError as error:
                raise InputError(f"{home}: cannot be written ({error.strerror})") from error
            changes = Changes()
            here = Place(Path(UPLOADS), os.fsencode(kept.name), kept)
            Update(manifest, codes, self.model, None, changes, self.folder / FEATURES).run([here], [], False)
        if changes.skipped:
            kept.unlink(missing_ok=True)
            raise UnreadableImage("the photo", changes.skipped[0].reason)
        return changes.added[0], True

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
            kept = [path for entry in entries.values() if self.keeps(path := self.location(entry))]
            forget(manifest, codes, list(entries.values()), self.folder / FEATURES)
            for path in kept:
                path.unlink(missing_ok=True)

    def keeps(self, path: Path) -> bool:
        """Tell whether a photo lies in the collection's own folder."""
        return path.parent == (self.folder / UPLOADS).absolute()

    def move(self, old: Path | str, new: Path | str) -> int:
        """Say that a root is elsewhere now and return how many photos it has.

        Raises:
            InputError: ``old`` is no root, or ``new`` holds none of its photos.
        """
        former, present = Path(os.path.abspath(old)), Path(new).resolve()  # noqa: PTH100 - links stay as they are
        numbers = [n for n, root in self.roots.items() if root in (former, former.resolve())]
        if not numbers:
            known = ", ".join(str(root) for root in self.roots.values())
            raise InputError(f"{old}: no root of {self.folder}; its roots are {known}")
        if present in self.roots.values():
            raise InputError(f"{new}: a root of {self.folder} already")
        with self._writing() as (manifest, _):
            names = manifest.under(numbers[0])
            if not any((present / os.fsdecode(name)).exists() for _, name in names[:_LOOKED_FOR]):
                raise InputError(f"{new}: holds none of the photos of {old}; name the folder they are in now")
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
        if digests(self.folder / MODEL)["record"] != self.manifest.fact("record"):
            raise InputError(f"{self.folder / MODEL / RECORD}: damaged; {REMEDY}")
        codes = open_codes(self.folder / CODES, self.bits, check=True)
        held, known = set(codes.ids.tolist()), set(self.manifest.ids(coded_only=True))
        if known - held:
            raise InputError(
                f"{self.folder / CODES}: photo {min(known - held)} has no code; "
                "run niphash index on its folder again to mend it"
            )
        missing = changed = 0
        for entry in self.manifest.all():
            try:
                stat = self.location(entry).stat()
                changed += (stat.st_size, stat.st_mtime_ns) != (entry.size, entry.mtime_ns)
            except OSError:
                missing += 1
        counts = {
            "codes of a killed run, which the next one removes": len(held - known),
            "photos are gone from their folders": missing,
            "photos were modified since they were indexed": changed,
        }
        return [f"{count} {what}" for what, count in counts.items() if count]

    def _update(self, finds: Finds, prune: bool, store: "DescriptorStore | None") -> Changes:
        changes = Changes(surveys=finds.surveys)
        with self._writing() as (manifest, codes):
            update = Update(manifest, codes, self.model, store, changes, self.folder / FEATURES)
            update.run(finds.places, finds.scopes, prune)
        return changes

    @contextmanager
    def _writing(self) -> Iterator[tuple[Manifest, Index]]:
        """Hold the lock; what a killed writer left is put in order first."""
        with self._changing, writer_lock(self.folder):
            manifest = Manifest(self.folder / MANIFEST, write=True)
            try:
                with writable_codes(self.folder / CODES, self.bits, self._workers) as codes:
                    reconcile(manifest, codes)
                    yield manifest, codes
            finally:
                manifest.close()
                with self._opening:
                    self._codes = self._roots = None

    def _answers(
        self,
        images: ImageSet,
        rows: list[tuple[int, np.ndarray | str]],
        reach: Reach,
        reranking: Reranking | None,
    ) -> Iterator[Answer]:
        wanted = reach if reranking is None else reranking.candidates(reach)
        described = [found for _, found in rows if not isinstance(found, str)]
        near: Iterator[Near] = iter(())
        if described:
            near = iter(
                near_descriptors(
                    self.codes, self.model.hasher, np.stack(described), wanted, self._extra() + _NEAREST
                )
            )
        for row, found in rows:
            if isinstance(found, str):
                yield Answer(images.ids[row], problem=found, readable=found == BLANK)
            else:
                matches = self._matches(next(near), _checksum(images, row), reach.distance)
                ratio, matches = _ratio(matches), matches[: wanted.most]
                if reranking is not None:
                    matches = reranking.order(images.subset([row]), found, matches)[: reach.most]
                yield Answer(images.ids[row], matches, ratio=ratio)

    def _matches(self, near: Near, checksum: bytes | None, distance: DistanceChoice) -> tuple[Match, ...]:
        """Return what was found, with names; codes of no photo (left by a kill) are no matches.

        Raises:
            InputError: there are more of these than a kill has left, so the manifest has lost photos.
        """
        entries = self.manifest.entries(near.ids.tolist())
        self._refuse_lost(set(near.ids.tolist()) - entries.keys())
        pairs = zip(near.distances.tolist(), near.ids.tolist(), strict=True)
        held = [(bits, entries[number]) for bits, number in pairs if number in entries]
        known = self.calibration(distance)
        distances = np.array([bits for bits, _ in held])
        likely = [None] * len(held) if known is None else known.probability(distances).tolist()
        return tuple(
            Match(
                entry.id,
                self.location(entry),
                bits,
                entry.checksum == checksum,
                probability=None if share is None else float(f"{share:.3g}"),
            )
            for (bits, entry), share in zip(held, likely, strict=True)
        )

    def _refuse_lost(self, nameless: set[int]) -> None:
        """Refuse ids without a photo where they are more than a kill has left.

        A photo that was removed since the index was asked has no code any more either.
        """
        extra = self._extra()
        if len(nameless) > extra and np.isin(list(nameless), self.codes.ids).sum() > extra:
            raise InputError(f"{self.manifest.path}: damaged, it has lost photos; {REMEDY}")

    def calibration(self, distance: DistanceChoice = "auto") -> Calibration | None:
        """Return how likely a photo of this collection shows what a query shows, at each distance.

        One photo of the collection is expected to; ``None`` where the model has learned nothing of it.

        Raises:
            InputError: the codes know no such distance, or the model's record is damaged.
        """
        known = self.model.calibration(choose_distance(self.model.hasher, distance))
        return None if known is None else known.with_prior(usual_prior(len(self)))

    def _extra(self) -> int:
        """Return how many codes are of no photo: they may be among the nearest."""
        return max(0, len(self.codes) - self.manifest.coded())

    def _absolute(self, path: Path) -> Path:
        if not path.is_absolute() and path != Path(UPLOADS):
            raise InputError(f"{self.manifest.path}: a root that is no absolute path; {REMEDY}")
        return path if path.is_absolute() else (self.folder / path).absolute()

    def _checked_bits(self) -> int:
        bits = self.manifest.fact("bits")
        if not bits.isdecimal() or not 0 < int(bits) <= 2**16 or int(bits) % 8:
            raise InputError(f"{self.manifest.path}: no code length; {REMEDY}")
        return int(bits)


def _in_order(
    photos: Iterable[tuple[int, np.ndarray | Skipped, bool]],
) -> Iterator[tuple[int, np.ndarray | Skipped, bool]]:
    """Yield described photos by row; a describer names the unreadable ones of a batch after the others."""
    early: dict[int, tuple[int, np.ndarray | Skipped, bool]] = {}
    following = 0
    for photo in photos:
        early[photo[0]] = photo
        while following in early:
            yield early.pop(following)
            following += 1


def _ratio(matches: Sequence[Match]) -> float | None:
    """Return :attr:`Answer.ratio` of matches, nearest first."""
    others = [match.distance for match in matches if not match.itself][:2]
    return float(f"{distance_ratios(*np.array(others)):.3g}") if len(others) == 2 else None


def _checksum(images: ImageSet, row: int) -> bytes | None:
    """Return the checksum of a query's file; a picture in memory has none."""
    if not isinstance(images.sources[row], Path):
        return None
    try:
        return bytes.fromhex(ImageSet((images.ids[row],), (images.sources[row],)).checksum(0))
    except UnreadableImage:
        return None
