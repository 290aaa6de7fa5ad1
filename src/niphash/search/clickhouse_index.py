"""Codes in a table of ClickHouse, in this process or on a cluster: exact scans by its own bit functions."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlsplit

import numpy as np

from niphash.errors import InputError
from niphash.search.files import read_index, write_index
from niphash.search.flat import FlatSegment
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
    refuse_absent,
    refuse_used,
)
from niphash.search.queries import Queries, padded_words
from niphash.search.segment import SortedIds, State

if TYPE_CHECKING:
    from niphash.hashing.hasher import DistanceName

#: Ids named in one statement.
IDS_AT_ONCE = 10_000
#: A Distributed table returns when its shards have the rows.
AT_ONCE = {"insert_distributed_sync": 1}
#: The first version with ``delete from``.
LIGHT_DELETES = 23
_NONE = np.empty(0, np.int64)


class Database(Protocol):
    """A ClickHouse that statements are sent to; tables come and go as those of pyarrow."""

    def command(self, statement: str) -> None:
        """Run a statement without a result."""

    def query(self, statement: str) -> Any:
        """Return the result of a statement."""

    def insert(self, table: str, rows: Any) -> None:
        """Append rows to a table."""

    def close(self) -> None:
        """Let go of the database."""


class EmbeddedDatabase:
    """ClickHouse inside this process, by chdb; one folder a process.

    Args:
        folder: Where it keeps its tables; a temporary one when not given.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        try:
            from chdb import session
        except ImportError:
            raise InputError("index=clickhouse needs chdb; install niphash[clickhouse]") from None
        try:
            self._session = session.Session(*([] if folder is None else [str(folder)]))
        except RuntimeError as error:
            raise InputError(f"folder={folder}: {_first_line(error)}; one process opens one") from error

    def command(self, statement: str) -> None:
        """Run a statement without a result."""
        self._session.query(statement)

    def query(self, statement: str) -> Any:
        """Return the result of a statement."""
        import pyarrow

        return pyarrow.ipc.open_file(self._session.query(statement, "Arrow").bytes()).read_all()

    def insert(self, table: str, rows: Any) -> None:
        """Append rows to a table."""
        assert rows is not None  # chdb finds the variable by its name
        self._session.query(f"insert into {table} select * from Python(rows)")

    def close(self) -> None:
        """End the embedded server."""
        self._session.close()


class ServerDatabase:
    """A ClickHouse server, by clickhouse-connect.

    Args:
        url: Such as ``http://user:password@host:8123/database``.
    """

    def __init__(self, url: str) -> None:
        try:
            import clickhouse_connect
        except ImportError:
            raise InputError("url needs clickhouse-connect; install niphash[clickhouse]") from None
        try:
            self._client = clickhouse_connect.get_client(dsn=url)
        except Exception as error:
            raise InputError(f"url={_without_user(url)}: no ClickHouse answers there") from error

    def command(self, statement: str) -> None:
        """Run a statement without a result."""
        self._client.command(statement)

    def query(self, statement: str) -> Any:
        """Return the result of a statement."""
        return self._client.query_arrow(statement)

    def insert(self, table: str, rows: Any) -> None:
        """Append rows to a table."""
        self._client.insert_arrow(table, rows, settings=AT_ONCE)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class NativeDatabase:
    """A ClickHouse server of any age, by its own protocol (clickhouse-driver).

    Args:
        url: ``clickhouse://user:password@host:9000/database``.
    """

    def __init__(self, url: str) -> None:
        try:
            from clickhouse_driver import Client
            from clickhouse_driver.errors import Error
        except ImportError:
            raise InputError("url needs clickhouse-driver; install niphash[clickhouse]") from None
        self.url = url
        try:
            parts = urlsplit(url)
            query = "&".join(filter(None, (parts.query, "strings_as_bytes=1")))
            self._client: Any = Client.from_url(parts._replace(query=query).geturl())
            self.command("select 1")
        except (Error, OSError, ValueError) as error:
            raise InputError(f"url={_without_user(url)}: no ClickHouse answers there") from error

    def command(self, statement: str) -> None:
        """Run a statement without a result."""
        self._client.execute(statement)

    def query(self, statement: str) -> Any:
        """Return the result of a statement."""
        import pyarrow

        columns, names = self._client.execute(statement, columnar=True, with_column_types=True)
        columns = columns or [[] for _ in names]
        return pyarrow.table({name: list(column) for (name, _), column in zip(names, columns, strict=True)})

    def insert(self, table: str, rows: Any) -> None:
        """Append rows to a table."""
        columns = [column.to_pylist() for column in rows.columns]
        self._client.execute(
            f"insert into {table} ({', '.join(rows.column_names)}) values", columns, columnar=True,
            settings=AT_ONCE,
        )  # fmt: skip

    def close(self) -> None:
        """Close the connection."""
        self._client.disconnect()


class ClickHouseIndex(Index):
    """A MergeTree of ids and codes, scanned by ``bitHammingDistance``.

    A server too old to have it (before 21.9) adds up the bits of each byte by a table.

    On a cluster create the tables beforehand, a Distributed one over a MergeTree on each shard, and name
    the first. Removing and compacting go to each shard, so they need a ``clickhouse://`` address.

    Args:
        bits: Length of a code, a positive multiple of 8.
        url: Of a server, ``http://host:8123/database`` or ``clickhouse://host:9000/database``; not given:
            ClickHouse in this process.
        folder: Of the tables of an embedded ClickHouse; a temporary one when not given.
        table: Name of the table, made if it is missing.
    """

    def __init__(
        self, bits: int, url: str | None = None, folder: Path | str | None = None, table: str = "codes"
    ) -> None:
        self.bits = checked_bits(bits)
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?", table):
            raise InputError(f"table={table} is no name of a table; use letters, digits and _")
        self._database: Database = _connect(url) if url else EmbeddedDatabase(folder)
        self._table = table if url or "." in table else f"default.{table}"
        self._database.command(
            f"create table if not exists {self._table} "
            f"(id Int64, code FixedString({self.bits // 8})) engine = MergeTree order by id"
        )
        last = self._database.query(f"select max(id) as last, count() as n from {self._table}").to_pydict()
        self._following = last["last"][0] + 1 if last["n"][0] else 0
        about = self._database.query(
            "select toInt64(splitByChar('.', version())[1]) as version, "
            "(select count() from system.functions where name = 'bitHammingDistance') as bits"
        ).to_pydict()
        self._version, self._has_bits = int(about["version"][0]), bool(about["bits"][0])

    def __len__(self) -> int:
        return int(self._database.query(f"select count() as n from {self._table}")["n"][0].as_py())

    @property
    def ids(self) -> np.ndarray:
        """int64 [N], the ids held, ascending."""
        return self._column(f"select id from {self._table} order by id")

    def add(self, codes: np.ndarray, ids: np.ndarray | None = None) -> np.ndarray:
        """Add codes and return their ids; see :meth:`Index.add`."""
        import pyarrow

        codes, ids = checked_addition(codes, ids, self.bits, self._following)
        if not len(ids):
            return ids
        refuse_used(self._held(ids))
        size = pyarrow.binary(self.bits // 8)
        column = pyarrow.FixedSizeBinaryArray.from_buffers(
            size, len(codes), [None, pyarrow.py_buffer(codes.tobytes())]
        )
        self._database.insert(self._table, pyarrow.table({"id": ids, "code": column}))
        self._following = max(self._following, int(ids.max()) + 1)
        return ids

    def remove(self, ids: np.ndarray) -> None:
        """Remove codes; see :meth:`Index.remove`."""
        ids = np.unique(checked_ids(ids))
        refuse_absent(np.setdiff1d(ids, self._held(ids)), REMOVE_HELD)
        with self._shards() as shards:
            for database, table in shards:
                for part in _lists(ids):
                    self._delete(database, table, part)

    def search(
        self, queries: np.ndarray, k: int, distance: "DistanceName" = "hamming"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest of each query; see :meth:`Index.search`."""
        checked, k = Queries.of(queries, distance, self.bits), checked_k(k)
        distances, ids = np.full((len(checked), k), -1, np.int64), np.full((len(checked), k), -1, np.int64)
        for query in range(len(checked)):
            at, found = self._nearest(checked, query, f"limit {k}")
            distances[query, : len(at)], ids[query, : len(at)] = at, found
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
        within = f"where distance <= {checked.as_integers(checked_radius(radius))}"
        end = "" if max_results is None else f"limit {checked_k(max_results, 'max_results')}"
        parts = [self._nearest(checked, query, end, within) for query in range(len(checked))]
        offsets = np.cumsum([0, *(len(at) for at, _ in parts)])
        distances, ids = (np.concatenate([_NONE, *(part[i] for part in parts)]) for i in (0, 1))
        return Neighbours(offsets, checked.as_reported(distances), ids)

    def get(self, ids: np.ndarray) -> np.ndarray:
        """Return the codes of ids; see :meth:`Index.get`."""
        ids = checked_ids(ids)
        held: dict[int, bytes] = {}
        for part in _lists(ids):
            rows = self._database.query(f"select id, code from {self._table} where id in ({part})")
            held |= dict(zip(rows["id"].to_pylist(), rows["code"].to_pylist(), strict=True))
        refuse_absent(np.array([number for number in ids.tolist() if number not in held]), ASK_HELD)
        codes = b"".join(held[number] for number in ids.tolist())
        return np.frombuffer(codes, np.uint8).reshape(len(ids), self.bits // 8).copy()

    def compact(self) -> None:
        """Merge the parts of the table, which frees what removed codes take."""
        with self._shards() as shards:
            for database, table in shards:
                database.command(f"optimize table {table} final")

    def stats(self) -> Stats:
        """Return the size of the index."""
        count = len(self)
        return Stats(count, 0, self.bits, 1, count * (8 + self.bits // 8))

    def explain(self, query: np.ndarray, k: int, distance: "DistanceName" = "hamming") -> Explanation:
        """Say that everything is scanned."""
        return Explanation(-1, len(self), 0, True)

    def save(self, folder: Path | str) -> None:
        """Write the codes to a folder; see :meth:`Index.save`."""
        ids = self.ids
        segment = FlatSegment.of(self.bits, padded_words(self.get(ids)).T, SortedIds(ids))
        write_index(
            Path(folder), type(self).__name__, self.bits, {}, self._following, State((segment,), (_NONE,))
        )

    @classmethod
    def open(cls, folder: Path | str, mmap: bool = True) -> Self:
        """Put the codes that :meth:`save` wrote into an empty table of an embedded ClickHouse."""
        content = read_index(Path(folder), cls.__name__, mmap)
        index = cls(content.bits)
        index._database.command(f"truncate table {index._table}")
        for segment in content.state.segments:
            if len(segment):
                index.add(segment.codes(np.arange(len(segment))), segment.ids[:])
        index._following = content.following
        return index

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    @contextmanager
    def _shards(self) -> Iterator[list[tuple[Database, str]]]:
        """Give the tables that hold the rows: this one, or those that a Distributed one is over."""
        *database, name = self._table.split(".")
        where = f"'{database[0]}'" if database else "currentDatabase()"
        found = self._database.query(
            f"select engine_full as engine from system.tables where database = {where} and name = '{name}'"
        )
        engine = re.match(r"Distributed\('?(\w+)'?, '?(\w+)'?, '?(\w+)'?", _text(found["engine"][0]))
        if engine is None:
            yield [(self._database, self._table)]
            return
        cluster, database_there, table = engine.groups()
        if not isinstance(self._database, NativeDatabase):
            raise InputError(
                f"table={self._table} is Distributed, and its shards are changed one by one; "
                "set index.url=clickhouse://host:9000/database"
            )
        hosts = self._database.query(
            f"select host_address, port from system.clusters where cluster = '{cluster}'"
        ).to_pydict()
        url, opened = urlsplit(self._database.url), list[NativeDatabase]()
        user = f"{url.netloc.rpartition('@')[0]}@" if "@" in url.netloc else ""
        try:
            for host, port in zip(hosts["host_address"], hosts["port"], strict=True):
                opened.append(NativeDatabase(f"clickhouse://{user}{_text(host)}:{port}/{database_there}"))
            yield [(shard, f"{database_there}.{table}") for shard in opened]
        finally:
            for shard in opened:
                shard.close()

    def _delete(self, database: Database, table: str, ids: str) -> None:
        """Delete the rows of ids, a list in SQL, and return when they are gone."""
        if self._version >= LIGHT_DELETES:
            database.command(f"delete from {table} where id in ({ids})")
            return
        database.command(f"alter table {table} delete where id in ({ids})")
        name = table.split(".")[-1]
        pending = f"select count() as n from system.mutations where table = '{name}' and not is_done"
        while database.query(pending)["n"][0].as_py():
            time.sleep(0.02)

    def _column(self, statement: str) -> np.ndarray:
        return self._database.query(statement)["id"].to_numpy().astype(np.int64)

    def _held(self, ids: np.ndarray) -> np.ndarray:
        parts = [
            self._column(f"select id from {self._table} where id in ({part}) order by id")
            for part in _lists(ids)
        ]
        return np.concatenate([_NONE, *parts])

    def _nearest(
        self, queries: Queries, query: int, end: str, within: str = ""
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return integer distances int64 [n] and ids int64 [n] for one query."""
        distance = _distance(queries, query, self._has_bits)
        found = self._database.query(
            f"select id, toInt64({distance}) as distance from {self._table} {within} "
            f"order by distance, id {end}"
        )
        return found["distance"].to_numpy().astype(np.int64), found["id"].to_numpy().astype(np.int64)


def _connect(url: str) -> Database:
    return NativeDatabase(url) if url.startswith("clickhouse") else ServerDatabase(url)


def _distance(queries: Queries, query: int, has_bits: bool) -> str:
    """Return the SQL of the integer distance between ``code`` and a query."""
    code = queries.codes[query]
    if queries.weights is None and has_bits:
        return f"bitHammingDistance(code, toFixedString(unhex('{code.tobytes().hex()}'), {len(code)}))"
    # One lookup a byte: the weight of every pattern of differing bits.
    values = np.arange(256)
    ones = np.bitwise_count(values)
    tables = [ones] * len(code) if queries.weights is None else queries.byte_tables[query][: len(code)]
    parts = [
        f"{table[values ^ byte].tolist()}[reinterpretAsUInt8(substring(code, {i + 1}, 1)) + 1]"
        for i, (table, byte) in enumerate(zip(tables, code, strict=True))
    ]
    return " + ".join(parts)


def _text(value: Any) -> str:
    value = value.as_py() if hasattr(value, "as_py") else value
    return value.decode() if isinstance(value, bytes) else str(value)


def _without_user(url: str) -> str:
    return re.sub("//.*@", "//", url)


def _lists(ids: np.ndarray) -> Iterator[str]:
    for start in range(0, len(ids), IDS_AT_ONCE):
        yield ", ".join(map(str, ids[start : start + IDS_AT_ONCE].tolist()))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
