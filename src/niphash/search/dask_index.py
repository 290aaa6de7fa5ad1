"""An index of shards on the workers of a Dask cluster, merged exactly."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from niphash.errors import InputError
from niphash.search.index import (
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
)
from niphash.search.queries import Queries
from niphash.search.segmented import MultiIndex

if TYPE_CHECKING:
    from niphash.hashing.hasher import DistanceName

SHARDS = "shards.json"


class Shard:
    """The part of an index that one worker holds.

    Its methods answer with a sentence in place of an :class:`InputError`, so that a lost worker is told apart
    from a bad input.
    """

    def __init__(self, options: dict[str, Any], folder: str | None = None) -> None:
        self._index = MultiIndex(**options) if folder is None else MultiIndex.open(folder)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a method of the index, or read an attribute of it."""
        try:
            value = getattr(self._index, name)
            return None, value(*arguments) if callable(value) else value
        except InputError as error:
            return str(error), None

    def held(self, ids: np.ndarray) -> np.ndarray:
        """Return which of ids are held."""
        return np.isin(ids, self._index.ids)


class DaskIndex(Index):
    """Shards as actors, one on each worker; a code lives on shard ``id % shards``.

    Each shard is a :class:`MultiIndex`, and the nearest of all shards are merged, so answers are those of
    one index. A worker that is lost means an error, never an answer without its codes. Dask's own protocol
    carries the arrays; like all of Dask it is for machines that trust each other.

    Args:
        bits: Length of a code, a positive multiple of 8.
        scheduler: Address such as ``tcp://host:8786``; not given: a cluster of processes on this machine.
        workers: How many processes that is.
        options: Further arguments of the shards.
    """

    _shards: list[Any]

    def __init__(self, bits: int, scheduler: str | None = None, workers: int = 2, **options: Any) -> None:
        self.bits = checked_bits(bits)
        self._options = {"bits": self.bits, **options}
        self._connect(scheduler, workers)
        self._start([None] * len(self._addresses))
        self._following = 0

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
        held = self._held(ids)
        if held.any():
            raise InputError(f"id {ids[held][0]} is used twice; give every code its own id")
        self._ask_each("add", [(codes[rows], ids[rows]) for rows in self._rows(ids)])
        self._following = max(self._following, int(ids.max()) + 1)
        return ids

    def remove(self, ids: np.ndarray) -> None:
        """Remove codes; see :meth:`Index.remove`."""
        ids = np.unique(checked_ids(ids))
        held = self._held(ids)
        if not held.all():
            raise InputError(f"id {ids[~held][0]} is not in the index; remove only what was added")
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
        held = self._held(ids)
        if not held.all():
            raise InputError(f"id {ids[~held][0]} is not in the index; ask for ids that were added")
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
        """Write every shard into a folder that all workers see."""
        folder = Path(folder).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self._ask_each("save", [(str(folder / f"shard-{i}"),) for i in range(len(self._shards))])
        content = {"shards": len(self._shards), "options": self._options, "following": self._following}
        part = folder / f"{SHARDS}.part"
        part.write_text(json.dumps(content) + "\n")
        part.replace(folder / SHARDS)

    @classmethod
    def open(cls, folder: Path | str, mmap: bool = True, scheduler: str | None = None) -> Self:
        """Open what :meth:`save` wrote, its shards shared out over the workers of a cluster."""
        folder = Path(folder).resolve()
        try:
            content = json.loads((folder / SHARDS).read_text())
            count, options = int(content["shards"]), dict(content["options"])
            following = int(content["following"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder / SHARDS}: missing or damaged; make the index again") from error
        index = cls.__new__(cls)
        index.bits, index._options, index._following = checked_bits(options["bits"]), options, following
        index._connect(scheduler, count)
        index._start([str(folder / f"shard-{i}") for i in range(count)])
        return index

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        self._shards = []
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def _connect(self, scheduler: str | None, workers: int) -> None:
        try:
            from distributed import Client, LocalCluster
        except ImportError:
            raise InputError("index=dask needs distributed; install niphash[dask]") from None
        self._cluster: Any = None
        if scheduler is None:
            self._cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
            )
        try:
            self._client: Any = Client(self._cluster or scheduler, timeout=10)
        except OSError as error:
            raise InputError(f"scheduler={scheduler}: no Dask scheduler answers there; start one") from error
        self._addresses = list(self._client.scheduler_info(n_workers=-1)["workers"])
        if not self._addresses:
            raise InputError(f"scheduler={scheduler}: has no workers; start dask worker {scheduler}")

    def _start(self, folders: list[str | None]) -> None:
        starts = [
            self._client.submit(
                Shard, self._options, folder, actor=True, pure=False,
                workers=[self._addresses[i % len(self._addresses)]], allow_other_workers=False,
            )
            for i, folder in enumerate(folders)
        ]  # fmt: skip
        self._shards = [start.result() for start in starts]

    def _rows(self, ids: np.ndarray) -> list[np.ndarray]:
        """Return the rows of ids on each shard."""
        return [np.flatnonzero(ids % len(self._shards) == i) for i in range(len(self._shards))]

    def _held(self, ids: np.ndarray) -> np.ndarray:
        rows, held = self._rows(ids), np.zeros(len(ids), bool)
        answers = self._collect(
            [partial(shard.held, ids[part]) for shard, part in zip(self._shards, rows, strict=True)]
        )
        for part, answer in zip(rows, answers, strict=True):
            held[part] = answer
        return held

    def _ask(self, name: str, *arguments: Any) -> list[Any]:
        return self._ask_each(name, [arguments] * len(self._shards))

    def _ask_each(self, name: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
        """Call a method of every shard at once.

        Raises:
            InputError: the first sentence with which a shard refused, or a worker was lost.
        """
        answers = self._collect(
            [partial(shard.call, name, *some) for shard, some in zip(self._shards, arguments, strict=True)]
        )
        for problem, _ in answers:
            if problem is not None:
                raise InputError(problem)
        return [value for _, value in answers]

    def _collect(self, calls: list[Callable[[], Any]]) -> list[Any]:
        try:
            return [future.result() for future in [call() for call in calls]]
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"a worker of the cluster was lost ({error}); open the saved index again on the workers left"
            ) from error
