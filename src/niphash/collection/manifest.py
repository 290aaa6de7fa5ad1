"""Which photos a collection holds: one SQLite file, every row with a checksum of its own.

The file may come from somebody else, so it is not believed: its schema must be ours to the letter (no view,
no trigger), and a row whose checksum or path is wrong is named and not used.
"""

import os
import sqlite3
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple
from urllib.parse import quote

from niphash.errors import InputError
from niphash.plain import printable

FORMAT = 1
#: Marks the file as ours ("niph").
APPLICATION = 0x6E697068
REMEDY = "copy the index anew, or make it again with niphash index"
_SCHEMA = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, seal BLOB NOT NULL) STRICT",
    "CREATE TABLE roots (root INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, seal BLOB NOT NULL) STRICT",
    "CREATE TABLE photos (id INTEGER PRIMARY KEY, root INTEGER NOT NULL, path BLOB NOT NULL, "
    "checksum BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, noted_ns INTEGER NOT NULL, "
    "coded INTEGER NOT NULL, seal BLOB NOT NULL, UNIQUE (root, path)) STRICT",
    "CREATE INDEX photos_by_checksum ON photos (checksum)",
)
_COLUMNS = "id, root, path, checksum, size, mtime_ns, noted_ns, coded, seal"
#: Rows looked up by one statement.
_PART = 500
_LONGEST_PATH = 4096
_BUSY_SECONDS = 30


class Entry(NamedTuple):
    """One photo of a collection.

    Attributes:
        id: Its number, never used again.
        root: Number of the folder it was found in.
        name: Its path below that folder, as the file system has it, with ``/`` between the parts.
        checksum: 16 bytes over the file's content.
        size: Bytes of the file.
        mtime_ns: When the file was last modified, in nanoseconds since 1970.
        noted_ns: When the file was read, in the same unit.
        coded: Whether it has a code; a photo without any local descriptor has none.
    """

    id: int
    root: int
    name: bytes
    checksum: bytes
    size: int
    mtime_ns: int
    noted_ns: int
    coded: bool


class Manifest:
    """The photos of a collection on disk; what was written stays written through a kill.

    Args:
        path: The file.
        write: Whether it may change; the caller sees to it that there is one writer.

    Raises:
        InputError: it is missing, damaged, of a newer format, or no manifest.
    """

    def __init__(self, path: Path, write: bool = False) -> None:
        self.path, self._lock = path, RLock()
        if not path.is_file():
            raise InputError(
                f"{path.parent}: holds no index; make one with niphash index <photos> --out <index>"
            )
        with self._sentences():
            self._sql = _connect(path)
            self._check_format()
            self._sql.execute(f"PRAGMA query_only = {'OFF' if write else 'ON'}")
        self._version = self._data_version()

    @classmethod
    def create(cls, path: Path, facts: Mapping[str, str]) -> "Manifest":
        """Write an empty manifest, whole or not at all, and return it open for writing.

        Raises:
            InputError: it cannot be written.
        """
        part = path.with_name(f"{path.name}.part")
        try:
            # by a process that was killed; a journal would be played into the new file
            for left in (part, *(file.with_name(f"{file.name}-journal") for file in (part, path))):
                left.unlink(missing_ok=True)
            cls._write_empty(part, facts)
            part.rename(path)
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"{path}: cannot be written ({error}); make room there, or name another folder"
            ) from error
        return cls(path, write=True)

    @staticmethod
    def _write_empty(path: Path, facts: Mapping[str, str]) -> None:
        sql = sqlite3.connect(path, isolation_level=None)
        try:
            sql.execute("BEGIN")
            for statement in _SCHEMA:
                sql.execute(statement)
            sql.execute(f"PRAGMA application_id = {APPLICATION}")
            sql.execute(f"PRAGMA user_version = {FORMAT}")
            for name, value in {"following": "0", "photos": "0", "coded": "0", **facts}.items():
                sql.execute("INSERT INTO facts VALUES (?, ?, ?)", (name, value, _seal(name, value)))
            sql.execute("COMMIT")
        finally:
            sql.close()

    def close(self) -> None:
        """Release the file."""
        self._sql.close()

    def __len__(self) -> int:
        """Return the number of photos, those without a code among them."""
        return self._number("photos")

    def coded(self) -> int:
        """Return the number of photos that have a code."""
        return self._number("coded")

    def changed(self) -> bool:
        """Tell whether another process has written since this was last asked."""
        version = self._data_version()
        changed, self._version = version != self._version, version
        return changed

    def fact(self, name: str) -> str:
        """Return what is known of the whole collection under ``name``."""
        rows = self._rows("SELECT value, seal FROM facts WHERE name = ?", (name,))
        if not rows or rows[0][1] != _seal(name, rows[0][0]):
            raise InputError(f"{self.path}: the entry {name!r} is missing or damaged; {REMEDY}")
        return str(rows[0][0])

    def roots(self) -> dict[int, Path]:
        """Return the folders by number; one inside the collection itself is named from there."""
        found = {}
        for number, path, seal in self._rows("SELECT root, path, seal FROM roots ORDER BY root"):
            if seal != _seal(number, path) or not 0 < len(path) <= _LONGEST_PATH or b"\0" in path:
                raise InputError(f"{self.path}: the entry of root {number} is damaged; {REMEDY}")
            found[int(number)] = Path(os.fsdecode(path))
        return found

    def entries(self, ids: Iterable[int]) -> dict[int, Entry]:
        """Return the photos among ``ids`` that are held."""
        return {entry.id: entry for entry in self._among("id", [int(number) for number in ids])}

    def entries_of(self, checksums: Iterable[bytes]) -> list[Entry]:
        """Return the photos whose content has one of these checksums, ordered by id."""
        return sorted(self._among("checksum", list(checksums)))

    def at(self, root: int, name: bytes) -> Entry | None:
        """Return the photo at a path, if it is held."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM photos WHERE root = ? AND path = ?", (root, name))
        return self._entry(rows[0]) if rows else None

    def following(self, last: int, count: int) -> list[Entry]:
        """Return the first ``count`` photos whose ids are above ``last``."""
        where = "WHERE id > ? ORDER BY id LIMIT ?"
        return [
            self._entry(row) for row in self._rows(f"SELECT {_COLUMNS} FROM photos {where}", (last, count))
        ]

    def all(self, rows: int = 4096) -> Iterator[Entry]:
        """Yield every photo, ordered by id, read ``rows`` at a time."""
        last = -1
        while part := self.following(last, rows):
            yield from part
            last = part[-1].id

    def under(self, root: int, prefix: bytes = b"") -> list[tuple[int, bytes]]:
        """Return id and name of the photos of a root whose names begin with ``prefix``, ordered by id."""
        rows = self._rows("SELECT id, path FROM photos WHERE root = ? ORDER BY id", (root,))
        return [(number, name) for number, name in rows if name.startswith(prefix)]

    def ids(self, coded_only: bool = False) -> list[int]:
        """Return the ids of all photos, ascending."""
        where = " WHERE coded = 1" if coded_only else ""
        return [row[0] for row in self._rows(f"SELECT id FROM photos{where} ORDER BY id")]

    def check(self) -> None:
        """Read every page and every row.

        Raises:
            InputError: something is damaged.
        """
        found = self._rows("PRAGMA integrity_check(1)")[0][0]
        if found != "ok":
            raise InputError(f"{self.path}: damaged ({printable(str(found))}); {REMEDY}")
        roots = self.roots()
        photos = coded = 0
        for entry in self.all():
            photos, coded = photos + 1, coded + entry.coded
            if entry.root not in roots or entry.id >= self._number("following"):
                raise InputError(f"{self.path}: photo {entry.id} lies in no root, or has no number; {REMEDY}")
        if (photos, coded) != (len(self), self.coded()):
            raise InputError(
                f"{self.path}: holds {photos} photos, not the {len(self)} that were added; {REMEDY}"
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all that is written inside, or nothing."""
        with self._lock, self._sentences():
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._set("changed", str(int(time.time())))
                self._sql.execute("COMMIT")
            except BaseException:
                self._sql.execute("ROLLBACK")
                raise

    def add_root(self, path: Path) -> int:
        """Return the number of a folder, entered if it is new; inside :meth:`transaction`."""
        for number, known in self.roots().items():
            if known == path:
                return number
        number = 1 + max(self.roots(), default=0)
        name = os.fsencode(path)
        self._sql.execute("INSERT INTO roots VALUES (?, ?, ?)", (number, name, _seal(number, name)))
        return number

    def move_root(self, number: int, path: Path) -> None:
        """Say that a folder is elsewhere now; inside :meth:`transaction`."""
        name = os.fsencode(path)
        self._sql.execute(
            "UPDATE roots SET path = ?, seal = ? WHERE root = ?", (name, _seal(number, name), number)
        )

    def reserve(self, count: int) -> range:
        """Return ``count`` ids that were never used; inside :meth:`transaction`."""
        first = self._number("following")
        self._set("following", str(first + count))
        return range(first, first + count)

    def add(self, entries: Sequence[Entry]) -> None:
        """Enter photos under new ids; inside :meth:`transaction`."""
        self._sql.executemany(
            f"INSERT INTO photos ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*entry[:7], int(entry.coded), _entry_seal(entry)) for entry in entries],
        )
        self._count(entries, 1)

    def note(self, entries: Sequence[Entry]) -> None:
        """Enter what is known now of the files of photos that are held; inside :meth:`transaction`."""
        self._sql.executemany(
            "UPDATE photos SET size = ?, mtime_ns = ?, noted_ns = ?, seal = ? WHERE id = ?",
            [(*entry[4:7], _entry_seal(entry), entry.id) for entry in entries],
        )

    def delete(self, entries: Sequence[Entry]) -> None:
        """Forget photos; inside :meth:`transaction`."""
        self._sql.executemany("DELETE FROM photos WHERE id = ?", [(entry.id,) for entry in entries])
        self._count(entries, -1)

    def _count(self, entries: Sequence[Entry], sign: int) -> None:
        self._set("photos", str(len(self) + sign * len(entries)))
        self._set("coded", str(self.coded() + sign * sum(entry.coded for entry in entries)))

    def _number(self, name: str) -> int:
        value = self.fact(name)
        if not value.isdecimal() or len(value) > 18:
            raise InputError(f"{self.path}: the entry {name!r} is damaged; {REMEDY}")
        return int(value)

    def _set(self, name: str, value: str) -> None:
        self._sql.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (name, value, _seal(name, value)))

    def _among(self, column: str, values: list[Any]) -> list[Entry]:
        found = []
        for start in range(0, len(values), _PART):
            part = values[start : start + _PART]
            marks = ", ".join("?" * len(part))
            found += self._rows(f"SELECT {_COLUMNS} FROM photos WHERE {column} IN ({marks})", part)
        return [self._entry(row) for row in found]

    def _entry(self, row: tuple) -> Entry:
        entry = Entry._make((*row[:7], bool(row[7])))
        if row[8] != _entry_seal(entry) or not _is_inside(entry.name) or len(entry.checksum) != 16:
            raise InputError(f"{self.path}: the entry of photo {entry.id} is damaged; {REMEDY}")
        return entry

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple]:
        with self._lock, self._sentences():
            return self._sql.execute(statement, values).fetchall()

    def _data_version(self) -> int:
        return int(self._rows("PRAGMA data_version")[0][0])

    def _check_format(self) -> None:
        application, version = (
            self._sql.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != APPLICATION:
            raise InputError(f"{self.path}: no manifest of an index; {REMEDY}")
        if version > FORMAT:
            raise InputError(
                f"{self.path}: an index of format {version}, newer than the {FORMAT} that this niphash "
                "reads; update niphash"
            )
        schema = self._sql.execute(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
        ).fetchall()
        if sorted(row[0] for row in schema) != sorted(_SCHEMA):
            raise InputError(f"{self.path}: no manifest of an index (its tables are others); {REMEDY}")

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            full = "full" in str(error) or "locked" in str(error) or "readonly" in str(error)
            reason = printable(str(error))
            if full:
                raise InputError(
                    f"{self.path}: cannot be written or read ({reason}); the index is as it was"
                ) from error
            raise InputError(f"{self.path}: damaged ({reason}); {REMEDY}") from error


def _connect(path: Path) -> sqlite3.Connection:
    """Open a file as data: no code in its schema is trusted, nothing in it is large."""
    # Opened for writing where that is possible: what a killed writer left is then undone, even by a reader.
    mode = "rw" if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "ro"
    location = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"
    sql = sqlite3.connect(
        location, uri=True, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False
    )
    sql.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2**20)
    sql.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "synchronous = FULL"):
        sql.execute(f"PRAGMA {pragma}")
    return sql


def _is_inside(name: bytes) -> bool:
    """Tell whether a path stays below the folder it is counted from."""
    return (
        0 < len(name) <= _LONGEST_PATH
        and b"\0" not in name
        and not any(part in (b"", b".", b"..") for part in name.split(b"/"))
    )


def _entry_seal(entry: Entry) -> bytes:
    return _seal(*entry[:7], int(entry.coded))


def _seal(*values: int | str | bytes | None) -> bytes:
    """Return 8 bytes over values, each with its kind and length."""
    digest = blake2b(digest_size=8)
    for value in values:
        content = value.encode(errors="surrogateescape") if isinstance(value, str) else value
        content = b"" if content is None else content  # of a damaged row: no seal fits it
        content = struct.pack("<q", content) if isinstance(content, int) else content
        digest.update(struct.pack("<cQ", type(value).__name__[:1].encode(), len(content)) + content)
    return digest.digest()
