"""An index of shards: what each finds, merged exactly; in this process, or wherever shards answer from."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np

from niphash.data.writing import refuse_links
from niphash.errors import InputError, writing
from niphash.plain import read_json
from niphash.search.files import MANIFEST, digest_of
from niphash.search.index import (
    ASK_HELD,
    REMOVE_HELD,
    Explanation,
    Index,
    Neighbours,
    Stats,
    checked_addition,
    checked_bits,
    checked_ids,
    checked_k,
    checked_radius,
    merge_results,
    refuse_absent,
    refuse_used,
)
from niphash.search.queries import Queries
from niphash.search.segmented import MultiIndex, SegmentedIndex
from niphash.search.stored import StoredIndex

if TYPE_CHECKING:
    from niphash.hashing.hasher import DistanceName

SHARDS = "shards.json"
#: More shards than any cluster has workers.
MOST_SHARDS = 100_000


class Shard:
    """The part of an index that one process holds.

    Its methods answer with a sentence in place of an :class:`InputError`, so that a lost process is told
    apart from a bad input.

    Args:
        options: Arguments of an empty :class:`MultiIndex`.
        folder: Holds the shard; not given: it is empty and lives in memory.
        write: Change the folder; otherwise changes stay in memory.
        mmap: Map the files of the folder.
    """

    def __init__(
        self, options: dict[str, Any], folder: str | None = None, write: bool = False, mmap: bool = True
    ) -> None:
        self._index: SegmentedIndex
        if folder is None:
            self._index = MultiIndex(**options)
        elif write:
            self._index = StoredIndex(folder, write=True, mmap=mmap)
        else:
            self._index = MultiIndex.open(folder, mmap)

    def call(self, name: str, *arguments: Any) -> tuple[str | None, Any]:
        """Call a method of the shard or of its index, or read an attribute; return a problem and a value."""
        try:
            value = getattr(self if name in ("held", "following") else self._index, name)
            return None, value(*arguments) if callable(value) else value
        except InputError as error:
            return str(error), None

    def held(self, ids: np.ndarray) -> np.ndarray:
        """Return which of ids are held, bool [N]."""
        return self._index._held(ids)

    def following(self) -> int:
        """Return the id after the greatest that was ever held."""
        return self._index._following


class Answerer(Protocol):
    """Whatever answers for a shard."""

    def start(self, name: str, *arguments: Any) -> Callable[[], tuple[str | None, Any]]:
        """Begin :meth:`Shard.call`; what is returned waits for the answer.

        Raises:
            InputError: nothing answers any more; also while waiting.
        """


class LocalShard:
    """A shard in this process."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def start(self, name: str, *arguments: Any) -> Callable[[], tuple[str | None, Any]]:
        """Call at once."""
        answer = self._shard.call(name, *arguments)
        return lambda: answer


class Layout(NamedTuple):
    """What ``shards.json`` says.

    Attributes:
        folders: Of the shards.
        options: Arguments of their indexes.
    """

    folders: tuple[str, ...]
    options: dict[str, Any]


class ShardedIndex(Index):
    """Codes shared out over shards; a code lives on shard ``id % shards``.

    Each shard is a :class:`MultiIndex`, and the nearest of all shards are merged, so answers are those of
    one index.

    Args:
        options: Arguments of each shard's index; ``bits`` is one of them.
        shards: What answers for each.
    """

    def __init__(self, options: dict[str, Any], shards: Sequence[Answerer]) -> None:
        self.bits, self._options = checked_bits(options["bits"]), options
        self._shards = list(shards)
        self._following = max(self._ask("following"))

    def __len__(self) -> int:
        return sum(self._ask("__len__"))

    @property
    def ids(self) -> np.ndarray:
        """int64 [N], the ids held, ascending."""
        return np.sort(np.concatenate(self._ask("ids")))

    def add(self, codes: np.ndarray, ids: np.ndarray | None = None) -> np.ndarray:
        """Add codes and return their ids; see :meth:`Index.add`."""
        codes, ids = checked_addition(codes, ids, self.bits, self._following)
        if not len(ids):
            return ids
        refuse_used(ids[self._held(ids)])
        self._ask_each("add", [(codes[rows], ids[rows]) for rows in self._rows(ids)])
        self._following = max(self._following, int(ids.max()) + 1)
        return ids

    def remove(self, ids: np.ndarray) -> None:
        """Remove codes; see :meth:`Index.remove`."""
        ids = np.unique(checked_ids(ids))
        refuse_absent(ids[~self._held(ids)], REMOVE_HELD)
        self._ask_each("remove", [(ids[rows],) for rows in self._rows(ids)])

    def search(
        self, queries: np.ndarray, k: int, distance: "DistanceName" = "hamming"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest of each query; see :meth:`Index.search`."""
        Queries.of(queries, distance, self.bits)
        parts = self._ask("search", np.asarray(queries), checked_k(k), distance)
        distances, ids = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        return merge_results(distances, ids, k)

    def range_search(
        self,
        queries: np.ndarray,
        radius: float,
        max_results: int | None = None,
        distance: "DistanceName" = "hamming",
    ) -> Neighbours:
        """Return all codes within ``radius`` of each query; see :meth:`Index.range_search`."""
        count = len(Queries.of(queries, distance, self.bits))
        checked_radius(radius)
        if max_results is not None:
            checked_k(max_results, "max_results")
        parts = self._ask("range_search", np.asarray(queries), radius, max_results, distance)
        numbers = np.concatenate([np.repeat(np.arange(count), np.diff(part.offsets)) for part in parts])
        distances = np.concatenate([part.distances for part in parts])
        ids = np.concatenate([part.ids for part in parts])
        order = np.lexsort((ids, distances, numbers))
        numbers, distances, ids = numbers[order], distances[order], ids[order]
        if max_results is not None:
            first = np.searchsorted(numbers, numbers)
            kept = np.arange(len(numbers)) - first < max_results
            numbers, distances, ids = numbers[kept], distances[kept], ids[kept]
        return Neighbours(np.searchsorted(numbers, np.arange(count + 1)), distances, ids)

    def get(self, ids: np.ndarray) -> np.ndarray:
        """Return the codes of ids; see :meth:`Index.get`."""
        ids = checked_ids(ids)
        refuse_absent(ids[~self._held(ids)], ASK_HELD)
        codes = np.empty((len(ids), self.bits // 8), np.uint8)
        rows = self._rows(ids)
        for part, found in zip(rows, self._ask_each("get", [(ids[part],) for part in rows]), strict=True):
            codes[part] = found
        return codes

    def compact(self) -> None:
        """Compact every shard."""
        self._ask("compact")

    def stats(self) -> Stats:
        """Return the size of all shards together."""
        parts = self._ask("stats")
        codes, removed, segments, size = (
            sum(getattr(part, name) for part in parts) for name in ("codes", "removed", "segments", "bytes")
        )
        return Stats(codes, removed, self.bits, segments, size)

    def explain(self, query: np.ndarray, k: int, distance: "DistanceName" = "hamming") -> Explanation:
        """Say how one query is answered, summed over the shards."""
        parts = self._ask("explain", query, k, distance)
        return Explanation(
            min(part.radius for part in parts),
            sum(part.candidates for part in parts),
            sum(part.buckets for part in parts),
            any(part.scanned for part in parts),
        )

    def save(self, folder: Path | str) -> None:
        """Write every shard into a folder that all of them see."""
        folder = Path(folder).resolve()
        with writing(folder, "name another folder"):
            folder.mkdir(parents=True, exist_ok=True)
        self._ask_each("save", [(str(folder / f"shard-{i}"),) for i in range(len(self._shards))])
        if not (folder / "shard-0" / MANIFEST).is_file():
            raise InputError(f"{folder}: the workers write elsewhere; name a folder that all of them see")
        body = {"shards": len(self._shards), "options": self._options}
        part = folder / f"{SHARDS}.part"
        with writing(folder / SHARDS, "make room, or name another folder"):
            part.write_text(json.dumps({**body, "checksum": digest_of(body)}) + "\n")
            part.replace(folder / SHARDS)

    @classmethod
    def open(cls, folder: Path | str, mmap: bool = True, write: bool = False) -> Self:
        """Open what :meth:`save` wrote, all shards in this process.

        Args:
            folder: Holds the shards.
            mmap: Map the files; otherwise every byte is read and checked.
            write: Change the folder: what ``add`` returned from is on the disk.
        """
        layout = read_layout(Path(folder), write)
        shards = [LocalShard(Shard(layout.options, path, write, mmap)) for path in layout.folders]
        return cls(layout.options, shards)

    def close(self) -> None:
        """Let go of the folder."""
        self._ask("close")

    def _rows(self, ids: np.ndarray) -> list[np.ndarray]:
        """Return the rows of ids on each shard."""
        return [np.flatnonzero(ids % len(self._shards) == i) for i in range(len(self._shards))]

    def _held(self, ids: np.ndarray) -> np.ndarray:
        rows, held = self._rows(ids), np.zeros(len(ids), bool)
        for part, answer in zip(rows, self._ask_each("held", [(ids[part],) for part in rows]), strict=True):
            held[part] = answer
        return held

    def _ask(self, name: str, *arguments: Any) -> list[Any]:
        return self._ask_each(name, [arguments] * len(self._shards))

    def _ask_each(self, name: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
        """Call a method of every shard at once.

        Raises:
            InputError: the first sentence with which a shard refused, or a shard was lost.
        """
        started = [shard.start(name, *some) for shard, some in zip(self._shards, arguments, strict=True)]
        answers = [wait() for wait in started]
        for problem, _ in answers:
            if problem is not None:
                raise InputError(problem)
        return [value for _, value in answers]


def read_layout(folder: Path, write: bool = False) -> Layout:
    """Return where the shards of a folder are.

    Raises:
        InputError: ``shards.json`` is missing or damaged; or, to ``write``, a shard is a link.
    """
    path, remedy = folder.resolve() / SHARDS, "make the index again"
    body = read_json(path, remedy)
    checksum = body.pop("checksum", None)
    try:
        if checksum != digest_of(body):
            raise ValueError("changed")
        count, options = body["shards"], body["options"]
        if not isinstance(count, int) or not 0 < count <= MOST_SHARDS:
            raise ValueError("no number of shards")
        MultiIndex(**options)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged; {remedy}") from error
    folders = [path.parent / f"shard-{i}" for i in range(count)]
    if write:
        refuse_links(path.parent, *folders)
    return Layout(tuple(map(str, folders)), options)
