"""An index that lives in a folder: what ``add`` and ``remove`` returned from outlives any kill."""

import secrets
import warnings
from pathlib import Path
from threading import Thread
from typing import Self

import numpy as np
from filelock import FileLock, Timeout

from niphash.errors import InputError
from niphash.search.files import LOCK, LOGS, MANIFEST, Content, read_index, write_index, write_segments
from niphash.search.flat import FlatSegment
from niphash.search.log import Log, Record
from niphash.search.segment import Segment, State
from niphash.search.segmented import _NONE, FlatIndex, MultiIndex, SegmentedIndex, merge, merge_from

FORMS: dict[str, type[SegmentedIndex]] = {"FlatIndex": FlatIndex, "MultiIndex": MultiIndex}


class StoredIndex(SegmentedIndex):
    """One writer and any number of readers of a folder.

    A change is in the log of the folder, on the disk, before it is answered. From ``seal_from`` new codes
    on they become a segment, merged with those not much larger, by a thread beside the searches; the
    manifest then names the new segments in place of the old. Readers keep what they opened; :meth:`refresh`
    opens what is there now.

    Args:
        folder: A new folder, or one that :meth:`save` of a flat or a multi-index wrote.
        form: An empty index whose form segments get; needed for a new folder, and ignored for others.
        write: Take the folder's lock, and allow changes.
        mmap: Map the files.
        threads: To search with; all cores when not given.

    Raises:
        InputError: the folder has a writer already, or holds no index.
    """

    seal_from = 2**20

    def __init__(
        self,
        folder: Path | str,
        form: SegmentedIndex | None = None,
        write: bool = False,
        mmap: bool = True,
        threads: int | None = None,
    ) -> None:
        self.folder, self._mmap = Path(folder), mmap
        self._log: Log | None = None
        self._guard: FileLock | None = None
        self._compaction: Thread | None = None
        self._problem: InputError | None = None
        if write:
            self._take_lock()
        try:
            if write and form is not None and not (self.folder / MANIFEST).exists():
                form.save(self.folder)
            content = read_index(self.folder, None, mmap)
            if content.kind not in FORMS:
                raise InputError(f"{self.folder}: an index of unknown kind {content.kind!r}; update niphash")
            super().__init__(content.bits, threads)
            self._form = self._form_of(content)
            self._take(content)
            if write:
                self._open_log(content)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, folder: Path | str, mmap: bool = True, write: bool = False) -> Self:
        """Open a folder; see the constructor."""
        return cls(folder, write=write, mmap=mmap)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def segment(self, source: FlatSegment) -> Segment:
        """Return the codes of ``source`` in the form of the index that the folder was made for."""
        return self._form.segment(source)

    def refresh(self) -> None:
        """Open what the writer has made of the folder since; for readers."""
        if self._guard is None:
            self._take(read_index(self.folder, None, self._mmap))

    def compact(self) -> None:
        """Free what removed codes take, and put everything into one segment, on the disk when it returns.

        Raises:
            InputError: the disk has no room; the index is as it was.
        """
        self._check_writable()
        self._wait()
        with self._lock:
            self._rotate()
            snapshot = self._state
        self._replace(0, State(snapshot.segments[:-1], snapshot.removed[:-1]))

    def flush(self) -> None:
        """Wait for the compaction that is under way.

        Raises:
            InputError: it had no room on the disk; the index is as it was.
        """
        self._wait()
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def save(self, folder: Path | str) -> None:
        """Write a copy to another folder; see :meth:`Index.save`."""
        if Path(folder).resolve() == self.folder.resolve():
            raise InputError(
                f"{folder}: the index lives there and is saved at all times; name another folder"
            )
        with self._lock:
            state = self._state
        write_index(
            Path(folder), type(self._form).__name__, self.bits, self._form.options(), self._following, state
        )

    def close(self) -> None:
        """Wait for a compaction under way, and let another writer in. Nothing needs to be flushed."""
        self._wait()
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._guard is not None:
            self._guard.release()
            self._guard = None

    def _take(self, content: Content) -> None:
        super()._take(content)
        self._entries, self._logs = content.entries, content.logs

    def _take_lock(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        guard = FileLock(self.folder / LOCK, thread_local=False)
        try:
            guard.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"{self.folder}: another process is writing to this index; wait until it has ended"
            ) from None
        self._guard = guard

    def _form_of(self, content: Content) -> SegmentedIndex:
        try:
            return FORMS[content.kind](content.bits, **content.options)
        except TypeError:
            raise InputError(
                f"{self.folder}: the manifest is damaged; restore the folder from a copy"
            ) from None

    def _open_log(self, content: Content) -> None:
        (self.folder / LOGS).mkdir(exist_ok=True)
        if content.logs:
            self._log = Log(self.folder / LOGS / content.logs[-1], content.end)
        else:
            self._rotate()

    def _check_writable(self) -> None:
        if self._guard is None:
            raise InputError(
                f"{self.folder}: the index was opened to read; open it with write=True to change it"
            )

    def _record_addition(self, codes: np.ndarray, ids: np.ndarray) -> None:
        self._record(Record(ids, codes))

    def _record_removal(self, ids: np.ndarray) -> None:
        self._record(Record(ids, None))

    def _record(self, record: Record) -> None:
        self._check_writable()
        assert self._log is not None
        self._log.append(record)

    def _searchable(self) -> State:
        return self._state

    def _settle(self) -> None:
        """Start a compaction where the block of new codes is full."""
        running = self._compaction is not None and self._compaction.is_alive()
        if len(self._state.segments[-1]) >= self.seal_from and not running:
            try:
                self._rotate()
            except InputError as error:  # the codes are in the log, so the addition holds
                self._report(error)
                return
            self._compaction = Thread(target=self._compact_in_background, daemon=False)
            self._compaction.start()

    def _compact_in_background(self) -> None:
        with self._lock:
            snapshot = State(self._state.segments[:-1], self._state.removed[:-1])
            first = merge_from(snapshot)
        try:
            self._replace(first, snapshot)
        except InputError as error:
            self._report(error)

    def _report(self, error: InputError) -> None:
        self._problem = error
        warnings.warn(f"{error} (new codes stay in the log)", stacklevel=2)

    def _wait(self) -> None:
        if self._compaction is not None:
            self._compaction.join()
            self._compaction = None

    def _rotate(self) -> None:
        """Close the block of new codes, and begin a new one with a log of its own."""
        name = f"{secrets.token_hex(8)}.log"
        log = Log(self.folder / LOGS / name)
        logs = [*self._logs, name]
        self._commit(self._state, logs)
        if self._log is not None:
            self._log.close()
        self._log, self._logs = log, logs
        block = (FlatSegment.empty(self.bits),)
        self._state = State((*self._state.segments, *block), (*self._state.removed, _NONE))

    def _replace(self, first: int, snapshot: State) -> None:
        """Put one segment in the place of those of ``snapshot`` from ``first`` on, here and on the disk."""
        sources = snapshot.segments[first:]
        merged = merge(self.bits, sources, snapshot.removed[first:])
        formed = self.segment(merged) if len(merged) else merged
        # The long part, without the lock: all codes of the snapshot, in a folder that no manifest names yet.
        staged = State((*snapshot.segments[:first], formed), (*snapshot.removed[:first], _NONE))
        entries = write_segments(self.folder, staged, self._entries)
        with self._lock:
            count = len(snapshot.segments)
            late = [
                segment.ids[now[~np.isin(now, before)]]
                for segment, before, now in zip(
                    sources, snapshot.removed[first:], self._state.removed[first:count], strict=True
                )
            ]
            rows = np.sort(formed.ids.rows(np.concatenate([_NONE, *late])))
            state = State(
                (*self._state.segments[:first], formed, *self._state.segments[count:]),
                (*self._state.removed[:first], rows, *self._state.removed[count:]),
            )
            before = self._entries
            self._entries = entries
            try:
                self._commit(state, self._logs[-1:])
            except InputError:
                self._entries = before
                raise
            self._logs, self._state = self._logs[-1:], state

    def _commit(self, state: State, logs: list[str]) -> None:
        """Write the manifest: the segments of ``state`` that are in the folder, the logs of all others."""
        stored = [
            (segment, removed) for segment, removed in zip(*state, strict=True) if segment in self._entries
        ]
        kept = State(tuple(segment for segment, _ in stored), tuple(removed for _, removed in stored))
        self._entries = write_index(
            self.folder, type(self._form).__name__, self.bits, self._form.options(), self._following, kept,
            self._entries, logs,
        )  # fmt: skip


def open_index(folder: Path | str, mmap: bool = True, write: bool = False) -> StoredIndex:
    """Open the index of a folder, to read or to change, whatever its form.

    Raises:
        InputError: no index, a newer or damaged one, or, to change it, one that has a writer.
    """
    return StoredIndex(folder, write=write, mmap=mmap)
