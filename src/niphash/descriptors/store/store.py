"""The descriptor store: described photos on disk, so that a photo is described once."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from niphash.data.images import ImageSet, UnreadableImage
from niphash.data.writing import check_folder
from niphash.descriptors.describer import Describer, DescribeReport, Skipped, check_finite
from niphash.descriptors.store.shards import (
    DTYPES,
    DamagedShard,
    Shard,
    check_part,
    open_shard,
    set_aside,
    shard_paths,
    write_shard,
)
from niphash.errors import InputError
from niphash.parallel import map_ahead
from niphash.progress import track

log = logging.getLogger(__name__)

#: Descriptors copied at a time when they are read back.
BLOCK_ROWS = 2048


class StoredDescriptors:
    """Descriptors of photos, in a store: read when they are asked for.

    Serves as a read-only float32 array [N, D] (``len``, ``shape``, rows, slices, index arrays,
    ``np.asarray``). The rows of photos that could not be read are NaN.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, store: "DescriptorStore", positions: np.ndarray) -> None:
        self.store, self.positions = store, positions

    @property
    def shape(self) -> tuple[int, int]:
        """N photos, D components."""
        return len(self.positions), self.store.dim

    def subset(self, chosen: np.ndarray) -> "StoredDescriptors":
        """Return the descriptors of the rows ``chosen``, bool [N], still in the store."""
        return StoredDescriptors(self.store, self.positions[chosen])

    @property
    def blank(self) -> np.ndarray:
        """bool [N], the photos without any local descriptor."""
        return self.store.blank(self.positions)

    def comparable(self) -> "StoredDescriptors":
        """Return the same where the rows of blank photos are NaN too: nothing about them can be compared."""
        return StoredDescriptors(self.store, np.where(self.blank, -1, self.positions))

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: "int | slice | list[int] | np.ndarray") -> np.ndarray:
        if isinstance(rows, int | np.integer):
            return self.store.read(self.positions[[rows]])[0]
        return self.store.read(self.positions[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("descriptors of a store are always copied into memory")
        return self.store.read(self.positions).astype(dtype or np.float32, copy=False)

    def blocks(self, rows: int = BLOCK_ROWS, seed: int | None = None) -> Iterator[np.ndarray]:
        """Yield every descriptor once, in blocks float32 [n, D], n <= ``rows``; unreadable photos left out.

        Args:
            rows: Descriptors in memory at a time.
            seed: Of a random order, or ``None``: whole shards are shuffled, and the rows in a block.
        """
        positions = self.positions[self.positions >= 0]
        rng = None if seed is None else np.random.default_rng(seed)
        if rng is not None and len(positions):
            shards = self.store.shard_of(positions)
            positions = positions[np.argsort(rng.permutation(shards.max() + 1)[shards], kind="stable")]
        for start in range(0, len(positions), rows):
            block = positions[start : start + rows]
            yield self.store.read(block if rng is None else rng.permutation(block))


def checksums(images: ImageSet) -> tuple[np.ndarray, dict[int, Skipped]]:
    """Return uint8 [N, 16], the checksums of N photos (zeros for missing files), and the missing by row."""

    def checksum(row: int) -> bytes | Skipped:
        try:
            return bytes.fromhex(images.checksum(row))
        except UnreadableImage as error:
            return Skipped(row, error.image_id, error.reason)

    keys, skipped = np.zeros((len(images), 16), np.uint8), {}
    for row, found in enumerate(track(map_ahead(checksum, range(len(images))), "look up", len(images))):
        if isinstance(found, Skipped):
            skipped[row] = found
        else:
            keys[row] = np.frombuffer(found, np.uint8)
    return keys, skipped


def as_bytes(keys: np.ndarray) -> np.ndarray:
    """Return uint8 [n, 16] checksums as bytes [n] that compare and sort."""
    return np.ascontiguousarray(keys).view("S16").reshape(-1)


#: Photos a shard: what a kill can lose.
SHARD_ROWS = 512


class DescriptorStore:
    """Descriptors of one describer, on disk, keyed by the checksums of the photos.

    A store is a folder; what one fitted describer gives lies in its sub-folder ``<fingerprint>``, in shards
    (:mod:`.shards`). A shard appears when it is whole and no two writers choose one name;
    so a kill leaves whole shards only, and several processes write at once without locks. A photo that two of
    them described is in two shards; the first one counts. A shard whose bytes were changed is named in the
    log, renamed to ``*.damaged``, and costs its photos a new description.

    Args:
        root: The store's folder, made when something is first written.
        fingerprint: Of the describer.
        dim: Components D of its descriptors.
        dtype: What is written: ``float32``, or ``float16`` (half the space, 3 decimal digits).

    Raises:
        InputError: another dtype, or a shard may not be read.
    """

    def __init__(self, root: Path | str, fingerprint: str, dim: int, dtype: str = "float32") -> None:
        if dtype not in ("float32", "float16"):
            raise InputError(f"store.dtype={dtype}: choose float32 or float16")
        self.folder, self.fingerprint, self.dim = Path(root) / fingerprint, fingerprint, int(dim)
        self.dtype = np.dtype(dtype)
        self._shards: list[Shard] = []
        self._names: set[str] = set()
        self._keys: list[np.ndarray] = []  # bytes [n] of each shard, until they are indexed
        self._blank: list[np.ndarray] = []  # bool [n] of each shard
        self._rows = 0
        self._checked: set[int] = set()  # numbers of the shards whose descriptors are those that were written
        self._damaged: set[int] = set()
        #: What the shards here hold: ``float32``, ``float16`` or both.
        self.dtypes: set[str] = set()
        self._sorted = (np.empty(0, "S16"), np.empty(0, np.int64))  # keys, each once, and their positions
        self.refresh()

    @classmethod
    def of(cls, describer: Describer, root: Path | str, dtype: str = "float32") -> "DescriptorStore":
        """Return the store of what ``describer``, fitted, gives; arguments and errors as of the class."""
        return cls(root, describer.fingerprint, describer.dim, dtype)

    def __len__(self) -> int:
        return len(self._index()[0])

    def refresh(self) -> None:
        """Take note of the shards that other processes have written since.

        Raises:
            InputError: a shard may not be read.
        """
        for path in shard_paths(self.folder):
            if path.name not in self._names:
                try:
                    with self._open(path, "np") as shard:
                        check_part(shard, path, "marks")
                        self.dtypes.add(DTYPES[shard.get_slice("descriptors").get_dtype()])
                        self._admit(path, shard.get_tensor("keys"), shard.get_tensor("blank"))
                except DamagedShard as error:
                    self._set_aside(path, error)
                except InputError:
                    if path.exists():  # else another process has just set it aside
                        raise

    def append(self, keys: np.ndarray, descriptors: np.ndarray, blank: np.ndarray | None = None) -> None:
        """Write one shard.

        Args:
            keys: uint8 [n, 16], checksums of n photos.
            descriptors: float [n, D].
            blank: bool [n], photos without local descriptors; none when it is not given.
        """
        n = len(keys)
        if keys.shape != (n, 16) or descriptors.shape != (n, self.dim):
            raise ValueError(
                f"keys {keys.shape} and descriptors {descriptors.shape} for {self.dim} components"
            )
        tensors = {
            "keys": np.ascontiguousarray(keys, np.uint8),
            "descriptors": np.ascontiguousarray(descriptors, self.dtype),
            "blank": np.zeros(n, bool) if blank is None else np.ascontiguousarray(blank, bool),
        }
        path = write_shard(self.folder, self.fingerprint, tensors)
        self._checked.add(len(self._shards))
        self.dtypes.add(self.dtype.name)
        self._admit(path, tensors["keys"], tensors["blank"])

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return int64 [n], where the descriptors of uint8 [n, 16] checksums are; -1 for absent ones.

        Every shard is read whole once before a position in it is given away.
        """
        wanted = as_bytes(keys)
        positions = self._look_up(wanted)
        while self._drop_damaged(positions):
            positions = self._look_up(wanted)
        return positions

    def _look_up(self, wanted: np.ndarray) -> np.ndarray:
        known, positions = self._index()
        if not len(known):
            return np.full(len(wanted), -1, np.int64)
        at = np.searchsorted(known, wanted).clip(max=len(known) - 1)
        return np.where(known[at] == wanted, positions[at], -1)

    def _drop_damaged(self, positions: np.ndarray) -> bool:
        """Tell whether one of the shards that ``positions`` lie in had to be given up."""
        numbers = set(np.unique(self.shard_of(positions)).tolist()) - {-1} - self._checked
        for number in sorted(numbers):
            path = self._shards[number].path
            try:
                with self._open(path, "pt") as shard:
                    check_part(shard, path, "descriptors")
                self._checked.add(number)
            except DamagedShard as error:
                self._damaged.add(number)
                self._set_aside(path, error)
        if numbers <= self._checked:
            return False
        whole = [shard for number, shard in enumerate(self._shards) if number not in self._damaged]
        self._sorted, self._keys = (np.empty(0, "S16"), np.empty(0, np.int64)), []
        for path, start in whole:
            with self._open(path, "np") as shard:
                keys = as_bytes(shard.get_tensor("keys"))
            self._insert(keys, np.arange(start, start + len(keys)))
        return True

    def _set_aside(self, path: Path, error: DamagedShard) -> None:
        log.warning("%s; its photos are described again", error)
        self._names.add(path.name)
        set_aside(path)

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Return float32 [n, D], the descriptors at int64 [n] positions (see :meth:`find`); NaN for -1."""
        positions = np.asarray(positions, np.int64)
        descriptors = np.full((len(positions), self.dim), np.nan, np.float32)
        shards = self.shard_of(positions)
        for number in np.unique(shards[shards >= 0]):
            path, start = self._shards[number]
            rows = np.flatnonzero(shards == number)
            # mapped anew each time: the pages of a mapping that is gone do not count as memory in use
            with self._open(path, "pt") as shard:
                descriptors[rows] = shard.get_tensor("descriptors").numpy()[positions[rows] - start]
        return descriptors

    def shard_of(self, positions: np.ndarray) -> np.ndarray:
        """Return int64 [n], the number of the shard that each position lies in; -1 for -1."""
        return np.searchsorted([start for _, start in self._shards], positions, "right") - 1

    def blank(self, positions: np.ndarray) -> np.ndarray:
        """Return bool [n], whether the photos at these positions have no local descriptor; false for -1."""
        flags = np.concatenate([*self._blank, [False]])  # the last one is what -1 finds
        return flags[positions]

    def all(self) -> StoredDescriptors:
        """Return every descriptor here, each photo once, in the order in which they were written."""
        while self._drop_damaged(self._index()[1]):
            pass
        return StoredDescriptors(self, np.sort(self._index()[1]))

    def _admit(self, path: Path, keys: np.ndarray, blank: np.ndarray) -> None:
        self._shards.append(Shard(path, self._rows))
        self._names.add(path.name)
        self._keys.append(as_bytes(keys))
        self._blank.append(blank)
        self._rows += len(keys)

    def _open(self, path: Path, framework: str) -> AbstractContextManager[Any]:
        return open_shard(path, framework, self.fingerprint, self.dim)

    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        if self._keys:
            new = np.concatenate(self._keys)
            self._keys = []
            self._insert(new, np.arange(self._rows - len(new), self._rows))
        return self._sorted

    def _insert(self, new: np.ndarray, at: np.ndarray) -> None:
        keys, positions = self._sorted
        keys, first = np.unique(np.concatenate([keys, new]), return_index=True)
        self._sorted = (keys, np.concatenate([positions, at])[first])


def describe_once(
    describer: Describer, images: ImageSet, store: DescriptorStore, report: DescribeReport | None = None
) -> np.ndarray:
    """Return what ``describer.describe(images, report)`` would, describing only what the store lacks.

    Args:
        describer: Fitted; the one that ``store`` belongs to.
        images: N photos.
        store: Where descriptors are looked up and written.
        report: When given, unreadable photos are entered there and their rows are NaN.

    Returns:
        float32 [N, D], in memory; :func:`describe_to_store` is for more than that holds.

    Raises:
        UnreadableImage: a photo cannot be read and no ``report`` was given.
        InputError: a descriptor holds NaN or infinite values.
    """
    return np.asarray(describe_to_store(describer, images, store, report))


def describe_to_store(
    describer: Describer, images: ImageSet, store: DescriptorStore, report: DescribeReport | None = None
) -> StoredDescriptors:
    """Describe what the store lacks of ``images`` into it; return the descriptors as they lie there.

    What a killed call had described, but for the last few hundred photos, the next call finds. Arguments and
    errors as of :func:`describe_once`.
    """
    if store.fingerprint != describer.fingerprint:
        raise ValueError("the store is one of another describer, or of this one before it was fitted")
    keys, skipped = checksums(images)
    readable = np.setdiff1d(np.arange(len(images)), list(skipped))
    store.refresh()
    absent = readable[store.find(keys[readable]) < 0]
    _, first = np.unique(as_bytes(keys[absent]), return_index=True)  # a photo that is twice in the set: once
    known = len(np.unique(as_bytes(keys[readable]))) - len(first)
    failed = _describe(describer, images, absent[np.sort(first)], keys, store, known)
    positions = np.full(len(images), -1, np.int64)
    positions[readable] = store.find(keys[readable])
    for row in readable[positions[readable] < 0].tolist():
        skipped[row] = Skipped(row, images.ids[row], failed[keys[row].tobytes()])
    if report is not None:
        report.survey = images.survey
        report.skipped.extend(skipped[row] for row in sorted(skipped))
        report.blank += int(store.blank(positions).sum())
    elif skipped:
        first_one = skipped[min(skipped)]
        raise UnreadableImage(first_one.image_id, first_one.reason)
    return StoredDescriptors(store, positions)


def _describe(
    describer: Describer,
    images: ImageSet,
    rows: np.ndarray,
    keys: np.ndarray,
    store: DescriptorStore,
    known: int,
) -> dict[bytes, str]:
    """Describe ``rows`` into the store, shard by shard; return why photos failed, by checksum.

    ``known`` photos are there already.
    """
    failed: dict[bytes, str] = {}
    done: list[tuple[np.ndarray, np.ndarray, bool]] = []

    def write() -> None:
        if done:
            own, descriptors, blank = zip(*done, strict=True)
            store.append(np.stack(own), np.stack(descriptors), np.array(blank))
            done.clear()

    if not len(rows):
        return failed
    check_folder(store.folder, "paths.data_dir or --out")
    try:
        for row, descriptor, blank in track(
            describer.photos(images.subset(rows.tolist())), "describe", known + len(rows), start=known
        ):
            key = keys[rows[row]]
            if isinstance(descriptor, Skipped):
                failed[key.tobytes()] = descriptor.reason
            else:
                check_finite(descriptor[None], [images.ids[rows[row]]])
                done.append((key, descriptor, blank))
            if len(done) >= SHARD_ROWS:
                write()
    finally:
        write()
    return failed
