"""An index in memory: segments that never change, tombstones of the removed, a block of new codes."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Self

import numpy as np

from niphash.errors import InputError
from niphash.search.flat import FlatSegment
from niphash.search.index import (
    ASK_HELD,
    REMOVE_HELD,
    Explanation,
    Index,
    Neighbours,
    Pairs,
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
from niphash.search.queries import Queries, padded_words
from niphash.search.segment import ROW_BITS, ROW_MASK, Segment, SortedIds, State, no_limits
from niphash.search.tables import MOST_CODES, MOST_TABLES, TableSegment

if TYPE_CHECKING:
    from niphash.hashing.hasher import DistanceName
    from niphash.search.files import Content

#: Queries searched at once; weighted ones carry tables of their own.
BATCH, BATCH_WEIGHTED = 4096, 256
#: Results that a range search first expects.
EXPECTED_RESULTS = 64
#: Codes without tables that a join makes some for.
JOIN_TABLES_FROM = 2**15
_NONE = np.empty(0, np.int64)


class SegmentedIndex(Index):
    """What the flat and the multi-index share: everything but the form of a segment.

    Searches may run in any number of threads while one changes the index.

    Args:
        bits: Length of a code, a positive multiple of 8.
        threads: To search with; all cores when not given.
    """

    #: The block of new codes becomes a segment from this size on.
    seal_from = 2**24

    def __init__(self, bits: int, threads: int | None = None) -> None:
        self.bits, self.threads = checked_bits(bits), threads
        self._lock = RLock()
        self._state = State((FlatSegment.empty(self.bits),), (_NONE,))
        self._following = 0

    @abstractmethod
    def segment(self, source: FlatSegment) -> Segment:
        """Return the codes of ``source`` in the form in which this index searches many."""

    def __len__(self) -> int:
        return self._state.held

    @property
    def ids(self) -> np.ndarray:
        """int64 [N], the ids held, ascending."""
        state = self._state
        held = [
            np.delete(segment.ids[:], removed)
            for segment, removed in zip(*state, strict=True)
            if len(segment)
        ]
        return np.sort(np.concatenate([_NONE, *held])) if len(held) > 1 else np.concatenate([_NONE, *held])

    def add(self, codes: np.ndarray, ids: np.ndarray | None = None) -> np.ndarray:
        """Add codes and return their ids; see :meth:`Index.add`."""
        with self._lock:
            codes, ids = checked_addition(codes, ids, self.bits, self._following)
            if not len(ids):
                return ids
            refuse_used(ids[self._held(ids)])
            self._record_addition(codes, ids)
            self._extend(codes, ids)
            self._settle()
            return ids

    def remove(self, ids: np.ndarray) -> None:
        """Remove codes; see :meth:`Index.remove`."""
        with self._lock:
            ids = np.unique(checked_ids(ids))
            refuse_absent(ids[~self._held(ids)], REMOVE_HELD)
            if len(ids):
                self._record_removal(ids)
                self._bury(ids)

    def search(
        self, queries: np.ndarray, k: int, distance: "DistanceName" = "hamming"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest of each query; see :meth:`Index.search`."""
        checked = Queries.of(queries, distance, self.bits)
        k, state = checked_k(k), self._searchable()
        width = min(k, state.held)
        distances, ids = np.full((len(checked), k), -1, np.int64), np.full((len(checked), k), -1, np.int64)
        if width:
            for part in _batches(checked):
                distances[part, :width], ids[part, :width] = _nearest(
                    state, checked[part], width, no_limits(part.stop - part.start), self.threads
                )
        reported = checked.as_reported(distances)
        reported[distances < 0] = -1
        return reported, ids

    def range_search(
        self,
        queries: np.ndarray,
        radius: float,
        max_results: int | None = None,
        distance: "DistanceName" = "hamming",
    ) -> Neighbours:
        """Return all codes within ``radius`` of each query; see :meth:`Index.range_search`."""
        checked = Queries.of(queries, distance, self.bits)
        limit = checked.as_integers(checked_radius(radius)) + 1
        state = self._searchable()
        most = state.held if max_results is None else min(checked_k(max_results, "max_results"), state.held)
        parts = [_within(state, checked[part], limit, most, self.threads) for part in _batches(checked)]
        counts = np.concatenate([_NONE, *(part[0] for part in parts)])
        distances, ids = (np.concatenate([_NONE, *(part[i] for part in parts)]) for i in (1, 2))
        return Neighbours(np.concatenate([[0], np.cumsum(counts)]), checked.as_reported(distances), ids)

    def get(self, ids: np.ndarray) -> np.ndarray:
        """Return the codes of ids; see :meth:`Index.get`."""
        ids = checked_ids(ids)
        state = self._state
        codes = np.zeros((len(ids), self.bits // 8), np.uint8)
        missing = np.ones(len(ids), bool)
        for segment, removed in zip(*state, strict=True):
            rows = _live(segment.ids.rows(ids), removed)
            here = rows >= 0
            if here.any():
                codes[here] = segment.codes(rows[here])
                missing &= ~here
        refuse_absent(ids[missing], ASK_HELD)
        return codes

    def compact(self) -> None:
        """Free what removed codes take, and put everything into one segment."""
        with self._lock:
            merged = merge(self.bits, *self._state)
            self._state = State((self._formed(merged), FlatSegment.empty(self.bits)), (_NONE, _NONE))

    def self_join(self, radius: int) -> Iterator[Pairs]:
        """Yield all pairs of codes within ``radius`` bits of each other, each once, some at a time.

        A join asks for everything at once, so tables pay from few codes on; they are made for it where the
        segments have none.
        """
        checked_radius(radius)
        state = self._searchable()
        flat = sum(len(segment) for segment in state.segments if isinstance(segment, FlatSegment))
        if flat < JOIN_TABLES_FROM or (isinstance(self, MultiIndex) and self.tables_from <= JOIN_TABLES_FROM):
            yield from super().self_join(radius)
            return
        with_tables = MultiIndex(self.bits, self.threads, tables_from=JOIN_TABLES_FROM)
        with_tables._state = State((merge(self.bits, *state), FlatSegment.empty(self.bits)), (_NONE, _NONE))
        with_tables.compact()
        yield from with_tables.self_join(radius)

    def stats(self) -> Stats:
        """Return the size of the index."""
        state = self._state
        parts = [segment for segment in state.segments if len(segment)]
        removed = sum(map(len, state.removed))
        return Stats(state.held, removed, self.bits, len(parts), sum(part.bytes for part in parts))

    def explain(self, query: np.ndarray, k: int, distance: "DistanceName" = "hamming") -> Explanation:
        """Say how one query is answered, summed over the segments."""
        checked = Queries.of(query if query.ndim == 2 else query[None], distance, self.bits)
        parts = [
            segment.explain(checked, min(checked_k(k), len(segment)), self.threads)
            for segment in self._searchable().segments
            if len(segment)
        ]
        return Explanation(
            min((part.radius for part in parts), default=-1),
            sum(part.candidates for part in parts),
            sum(part.buckets for part in parts),
            any(part.scanned for part in parts),
        )

    def save(self, folder: Path | str) -> None:
        """Write the index to a folder; see :meth:`Index.save`."""
        from niphash.search.files import write_index

        with self._lock:
            write_index(
                Path(folder), type(self).__name__, self.bits, self.options(), self._following, self._state
            )

    @classmethod
    def open(cls, folder: Path | str, mmap: bool = True) -> Self:
        """Open what :meth:`save` wrote; what changes afterwards, changes in memory."""
        from niphash.search.files import read_index

        content = read_index(Path(folder), cls.__name__, mmap)
        try:
            index = cls(content.bits, **content.options)
        except TypeError:
            raise InputError(f"{folder}: the manifest is damaged; restore the folder from a copy") from None
        index._take(content)
        return index

    def options(self) -> dict[str, float | None]:
        """Return the arguments, beside ``bits``, that decide the form of the segments."""
        return {}

    def _take(self, content: "Content") -> None:
        """Take over what was read from a folder."""
        self._state, self._following = content.state, content.following
        for record in content.records:
            held = self._held(record.ids)
            if record.codes is None:  # a removal may have reached the segments already
                self._bury(record.ids[held])
            elif not held.any():
                self._extend(record.codes, record.ids)
            else:
                raise InputError(
                    f"{content.folder}: the log adds id {record.ids[held][0]} twice; restore a copy"
                )

    def _record_addition(self, codes: np.ndarray, ids: np.ndarray) -> None:
        """Keep what is about to be added, where the index outlives the process."""

    def _record_removal(self, ids: np.ndarray) -> None:
        """Keep what is about to be removed, where the index outlives the process."""

    def _settle(self) -> None:
        """Reorganise after an addition; in memory the next search does."""

    def _searchable(self) -> State:
        """Return the state to search, after a large block of new codes has become a segment."""
        if len(self._state.segments[-1]) >= self.seal_from:
            with self._lock:
                self._seal()
        return self._state

    def _held(self, ids: np.ndarray) -> np.ndarray:
        """Tell which ids are held, bool [N]."""
        held = np.zeros(len(ids), bool)
        for segment, removed in zip(*self._state, strict=True):
            held |= _live(segment.ids.rows(ids), removed) >= 0
        return held

    def _extend(self, codes: np.ndarray, ids: np.ndarray) -> None:
        """Put codes into the block of new ones."""
        *segments, block = self._state.segments
        *others, removed = self._state.removed
        assert isinstance(block, FlatSegment)
        words, order = padded_words(codes).T, None
        if len(ids) > 1 and np.any(ids[1:] < ids[:-1]):
            order = np.argsort(ids)
            words, ids = words[:, order], ids[order]
        if len(block) and int(ids[0]) <= block.ids.last:  # among them, or in the place of a removed one
            addition = FlatSegment.of(self.bits, words, SortedIds(ids))
            block, removed = merge(self.bits, (block, addition), (removed, _NONE)), _NONE
        else:
            block = block.followed_by(words, ids.copy())
        self._state = State((*segments, block), (*others, removed))
        self._following = max(self._following, int(ids[-1]) + 1)

    def _bury(self, ids: np.ndarray) -> None:
        """Count ids that are held among the removed."""
        removed = []
        for segment, before in zip(*self._state, strict=True):
            rows = _live(segment.ids.rows(ids), before)
            rows = rows[rows >= 0]
            removed.append(np.union1d(before, rows) if len(rows) else before)
        self._state = self._state._replace(removed=tuple(removed))

    def _seal(self) -> None:
        """Make the block of new codes a segment, together with all segments that are not much larger."""
        count = merge_from(self._state)
        kept = State(self._state.segments[:count], self._state.removed[:count])
        merged = merge(self.bits, self._state.segments[count:], self._state.removed[count:])
        self._state = State(
            (*kept.segments, self._formed(merged), FlatSegment.empty(self.bits)),
            (*kept.removed, _NONE, _NONE),
        )

    def _formed(self, source: FlatSegment) -> Segment:
        return self.segment(source) if len(source) else source


class FlatIndex(SegmentedIndex):
    """All codes are compared with every query: a scan at the speed of memory.

    Args:
        bits: Length of a code, a positive multiple of 8.
        threads: To search with; all cores when not given.
    """

    def segment(self, source: FlatSegment) -> Segment:
        """Return ``source`` as it is."""
        return source


class MultiIndex(SegmentedIndex):
    """Tables of 16-bit words: a query looks at few codes, and the answer is exact all the same.

    Where tables do not pay it scans: fewer codes than ``tables_from``, codes shorter than 32 bits or longer
    than 240, queries far from everything.

    Args:
        bits: Length of a code, a positive multiple of 8.
        threads: To search with; all cores when not given.
        tables_from: Segments of this many codes have tables.
        bytes_per_code: Memory that a segment may take, without ids. The most is 12 + 6 x 4 = 36 for 64
            bits: four tables, and the codes in rows for the scans. With less the rows go first, then
            tables; two without rows take 16. When not given, the most.
    """

    def __init__(
        self,
        bits: int,
        threads: int | None = None,
        tables_from: int = 2**22,
        bytes_per_code: float | None = None,
    ) -> None:
        super().__init__(bits, threads)
        if tables_from < 0:
            raise InputError(f"tables_from={tables_from}; choose a number of codes, 0 or more")
        self.tables_from, self.bytes_per_code = tables_from, bytes_per_code
        self.seal_from = max(tables_from, 1)
        self._layout = self._choose_layout()

    def segment(self, source: FlatSegment) -> Segment:
        """Return ``source`` with tables where they pay."""
        tables, rows = self._layout
        if not tables or not max(1, self.tables_from) <= len(source) <= MOST_CODES:
            return source
        return TableSegment.of(source, tables, rows, self.threads)

    def _choose_layout(self) -> tuple[int, bool]:
        """Return how many tables there are, and whether codes are kept in rows as well."""
        words = -(-self.bits // 16)
        if not 32 <= self.bits <= 240:
            return 0, True
        most = min(words, MOST_TABLES)
        table, rows = 2 * (words - 1), 8 * -(-self.bits // 64)
        layouts = [(most, True), *((tables, False) for tables in range(most, 0, -1))]
        for tables, keep in layouts:
            size = table * tables + 4 + rows * keep
            if self.bytes_per_code is None or size <= self.bytes_per_code:
                return tables, keep
        raise InputError(
            f"bytes_per_code={self.bytes_per_code}: one table of {self.bits} bits takes {table + 4}; "
            "allow as many, or choose index=flat"
        )

    def options(self) -> dict[str, float | None]:
        """Return the arguments, beside ``bits``, that decide the form of the segments."""
        return {"tables_from": self.tables_from, "bytes_per_code": self.bytes_per_code}


def merge(bits: int, segments: tuple[Segment, ...], removed: tuple[np.ndarray, ...]) -> FlatSegment:
    """Return what segments hold as one, in order of ids."""
    parts = [(segment, rows) for segment, rows in zip(segments, removed, strict=True) if len(segment)]
    ids = [np.delete(segment.ids[:], rows) for segment, rows in parts]
    if not sum(map(len, ids)):
        return FlatSegment.empty(bits)
    if len(parts) == 1 and not len(parts[0][1]) and isinstance(parts[0][0], FlatSegment):
        return parts[0][0]
    words = np.empty((-(-bits // 64), sum(map(len, ids))), np.uint64)
    start = 0
    for segment, rows in parts:
        kept = segment.words(slice(None))
        stop = start + len(segment) - len(rows)
        words[:, start:stop] = np.delete(kept, rows, axis=1) if len(rows) else kept
        start = stop
    all_ids = np.concatenate(ids)
    if np.any(all_ids[1:] < all_ids[:-1]):
        order = np.argsort(all_ids, kind="stable")
        all_ids, words = all_ids[order], words[:, order]
    return FlatSegment.of(bits, words, SortedIds(all_ids))


def merge_from(state: State) -> int:
    """Return from which segment on all are to be merged, so that each is larger than all later ones together.

    There are then few segments, and a code is written anew only each time its segment has doubled.
    """
    first = len(state.segments) - 1
    size = len(state.segments[-1])
    for place in range(first - 1, -1, -1):
        if len(state.segments[place]) <= 2 * size:
            first = place
        size += len(state.segments[place])
    return first


def _batches(queries: Queries) -> Iterator[slice]:
    rows = BATCH if queries.weights is None else BATCH_WEIGHTED
    for start in range(0, len(queries), rows):
        yield slice(start, min(start + rows, len(queries)))


def _live(rows: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Return rows, -1 for those that were removed."""
    if not len(removed):
        return rows
    places = np.minimum(np.searchsorted(removed, rows), len(removed) - 1)
    return np.where(removed[places] == rows, -1, rows)


def _nearest(
    state: State, queries: Queries, k: int, limits: np.ndarray, threads: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return distances and ids, int64 [Q, k], of the nearest below ``limits``; -1 where there are fewer."""
    distances, ids = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -1, np.int64)
    for segment, removed in sorted(zip(*state, strict=True), key=lambda part: -len(part[0])):
        width = min(k, len(segment) - len(removed))
        if width < 1:
            continue
        at, rows = _live_nearest(segment, removed, queries, width, limits, threads)
        found = np.where(rows < 0, -1, segment.ids[np.maximum(rows, 0)])
        if width < k or np.any(distances >= 0):
            at, found = merge_results(
                np.concatenate([distances, at], axis=1), np.concatenate([ids, found], axis=1), k
            )
        distances, ids = at, found
        full = distances[:, -1] >= 0
        limits = np.where(full, np.minimum(limits, distances[:, -1] + 1), limits)
    return distances, ids


def _live_nearest(
    segment: Segment, removed: np.ndarray, queries: Queries, k: int, limits: np.ndarray, threads: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return distances and rows, int64 [Q, k], of the nearest that were not removed; -1 where there are
    fewer.

    Of a few more than k nearest, those that were removed are left out; where that leaves less than k, of
    many more.
    """
    distances, rows = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -1, np.int64)
    open_queries, width = np.arange(len(queries)), min(len(segment), k + min(len(removed), k))
    while len(open_queries):
        keys = segment.nearest(queries[open_queries], width, limits[open_queries], threads)
        keys = keys.view(np.int64)
        below = (keys >> ROW_BITS) < limits[open_queries, None]
        found = np.where(below, keys & ROW_MASK, -1)
        live, at = _live(found, removed), keys >> ROW_BITS
        if len(removed):
            order = np.argsort(live < 0, axis=1, kind="stable")
            live, at = np.take_along_axis(live, order, axis=1), np.take_along_axis(at, order, axis=1)
        kept, at = live[:, :k], at[:, :k]
        distances[open_queries, : kept.shape[1]] = np.where(kept < 0, -1, at)
        rows[open_queries, : kept.shape[1]] = kept
        # Complete: k that live, or no more below the limit.
        complete = (kept >= 0).all(axis=1) | ~below[:, -1] | (width == len(segment))
        open_queries = open_queries[~complete]
        width = min(len(segment), 4 * width)
    return distances, rows


def _within(
    state: State, queries: Queries, limit: int, most: int, threads: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how many lie below ``limit`` of each query, int64 [Q], and all their distances and ids."""
    results: list[tuple[np.ndarray, np.ndarray]] = [(_NONE, _NONE)] * len(queries)
    open_queries, width = np.arange(len(queries)), min(most, EXPECTED_RESULTS)
    while len(open_queries) and width:
        limits = np.full(len(open_queries), limit, np.int64)
        distances, ids = _nearest(state, queries[open_queries], width, limits, threads)
        full = (distances[:, -1] >= 0) & (width < most)
        for place in np.flatnonzero(~full):
            found = distances[place] >= 0
            results[open_queries[place]] = (distances[place][found], ids[place][found])
        open_queries, width = open_queries[full], min(most, 8 * width)
    counts = np.array([len(ids) for _, ids in results], np.int64)
    return (
        counts,
        np.concatenate([_NONE, *(distances for distances, _ in results)]),
        np.concatenate([_NONE, *(ids for _, ids in results)]),
    )
