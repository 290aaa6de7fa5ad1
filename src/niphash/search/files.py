"""An index in a folder: a manifest, the arrays of each segment, and the logs of what came later.

``index.json`` is swapped by a rename, and names everything else; a folder is therefore always one whole
index, and whatever the manifest does not name is left over from a kill. The files may come from anyone:
shapes, types and sizes are checked against the manifest before a file is mapped, and what is followed
(offsets of buckets) before it is followed. Checksums cover every byte; they are compared when files are
read, not when they are mapped.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from niphash.errors import InputError
from niphash.search.flat import FlatSegment
from niphash.search.log import Record, read_log
from niphash.search.segment import Segment, SortedIds, State
from niphash.search.tables import BUCKETS, TableSegment

FORMAT, VERSION = "niphash index", 1
MANIFEST, SEGMENTS, LOGS = "index.json", "segments", "logs"
#: Held by the one that writes to a folder.
LOCK = "writer.lock"
_TYPES = {
    "ids": "<i8",
    "removed": "<i8",
    "planes": "<u8",
    "offsets": "<u4",
    "rest": "<u2",
    "rows": "<u4",
    "sample": "<u2",
}
#: Read and compared with their checksums even where the others are mapped.
_SMALL = ("removed", "offsets", "sample")
_CHUNK = 2**24


class Content(NamedTuple):
    """What a folder holds.

    Attributes:
        folder: Where it was read.
        kind: Name of the class that wrote it.
        bits: Length of a code.
        options: Further arguments of that class.
        following: The id after the greatest that was ever held.
        state: The segments, and an empty block.
        entries: What the manifest says of each segment, by segment.
        logs: Names of the logs, in order.
        records: What they add and remove.
        end: Where the last whole record of the last log ends.
    """

    folder: Path
    kind: str
    bits: int
    options: dict[str, Any]
    following: int
    state: State
    entries: dict[Segment, dict[str, Any]]
    logs: list[str]
    records: list[Record]
    end: int


def write_index(
    folder: Path,
    kind: str,
    bits: int,
    options: dict[str, Any],
    following: int,
    state: State,
    entries: dict[Segment, dict[str, Any]] | None = None,
    logs: Iterable[str] = (),
) -> dict[Segment, dict[str, Any]]:
    """Write an index; segments that ``entries`` knows are there already.

    Returns:
        What the manifest says of each segment.

    Raises:
        InputError: the folder holds something else, or cannot be written; what it held is as it was.
    """
    with _writing(folder) as written:
        saved = _write_segments(folder, state, entries or {}, written)
        for segment, removed in zip(*state, strict=True):
            if segment in saved:
                saved[segment] = _with_removed(folder, saved[segment], removed, written)
        body = {
            "kind": kind,
            "bits": bits,
            "options": options,
            "following": following,
            "segments": list(saved.values()),
            "logs": list(logs),
        }
        write_manifest(folder, body)
    remove_leftovers(folder, body)
    return saved


def write_segments(
    folder: Path, state: State, entries: dict[Segment, dict[str, Any]]
) -> dict[Segment, dict[str, Any]]:
    """Write the segments that ``entries`` does not know, for a manifest to come.

    Returns:
        What that manifest is to say of each segment.

    Raises:
        InputError: the folder cannot be written; it is as it was.
    """
    with _writing(folder) as written:
        return _write_segments(folder, state, entries, written)


def write_manifest(folder: Path, body: dict[str, Any]) -> None:
    """Replace the manifest."""
    text = json.dumps({"format": FORMAT, "version": VERSION, "checksum": digest_of(body), **body}, indent=1)
    part = folder / f"{MANIFEST}.{os.getpid()}.part"
    try:
        with part.open("w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / MANIFEST)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def read_index(folder: Path, kind: str | None = None, mmap: bool = True) -> Content:
    """Read a folder.

    Args:
        folder: Of an index.
        kind: Name of the class that is expected to have written it; any when not given.
        mmap: Map large arrays and do not compare their checksums.

    Raises:
        InputError: no index, one of another kind or of a newer version, or a damaged one.
    """
    for _ in range(20):  # a writer may remove a file that the manifest named a moment ago
        body = read_manifest(folder)
        try:
            return _read_content(folder, body, kind, mmap)
        except FileNotFoundError as error:
            missing = error.filename
    raise InputError(f"{missing}: missing; restore {folder} from a copy")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check the manifest of a folder.

    Raises:
        InputError: it is missing, damaged, or of a newer version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder}: no index there; write one with niphash index")
    try:
        body = json.loads(path.read_text())
        if not isinstance(body, dict) or body.pop("format", None) != FORMAT:
            raise InputError(f"{path}: not the manifest of an index; write one with niphash index")
        version = body.pop("version", None)
        if isinstance(version, int) and version > VERSION:
            raise InputError(
                f"{path}: format {version} is newer than this niphash, which reads {VERSION}; update it"
            )
        if version != VERSION or body.pop("checksum", None) != digest_of(body):
            raise _damaged(path)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(path) from error
    return body


def check_index(folder: Path) -> None:
    """Compare every byte of an index with its checksum.

    Raises:
        InputError: a file is damaged.
    """
    read_index(folder, mmap=False)


def remove_leftovers(folder: Path, body: dict[str, Any]) -> None:
    """Remove the segments and logs that a manifest does not name."""
    names = {entry["name"] for entry in body["segments"]}
    files = {f"{entry['name']}/{entry['removed']['file']}" for entry in body["segments"] if entry["removed"]}
    with contextlib.suppress(OSError):
        for path in (folder / SEGMENTS).iterdir():
            if path.name not in names:
                shutil.rmtree(path, ignore_errors=True)
                continue
            for file in path.glob("removed-*"):
                if f"{path.name}/{file.name}" not in files:
                    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        for path in (folder / LOGS).iterdir():
            if path.name not in body["logs"]:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[list[Path]]:
    """Give a list for the paths of new files; where one cannot be written, all of them are removed."""
    written: list[Path] = []
    try:
        if folder.is_dir() and not (folder / MANIFEST).exists():
            others = {path.name for path in folder.iterdir()} - {SEGMENTS, LOGS, LOCK}
            if others:
                raise InputError(f"{folder}: holds other files; name a new folder for the index")
        (folder / SEGMENTS).mkdir(parents=True, exist_ok=True)
        yield written
    except OSError as error:
        for path in written:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise InputError(
            f"{folder}: could not be written ({error.strerror}); what it held is as it was, make room and "
            "try again"
        ) from error


def _write_segments(
    folder: Path, state: State, entries: dict[Segment, dict[str, Any]], written: list[Path]
) -> dict[Segment, dict[str, Any]]:
    return {
        segment: entries.get(segment) or _write_segment(folder, segment, written)
        for segment in state.segments
        if len(segment)
    }


def _write_segment(folder: Path, segment: Segment, written: list[Path]) -> dict[str, Any]:
    name = secrets.token_hex(8)
    path = folder / SEGMENTS / name
    path.mkdir()
    written.append(path)
    arrays = segment.arrays()
    if segment.ids.values is not None:
        arrays["ids"] = segment.ids.values
    described = {key: _write_array(path / f"{key}.bin", key, values) for key, values in arrays.items()}
    _sync_folder(path)
    _sync_folder(path.parent)
    return {
        "name": name,
        "codes": len(segment),
        "first": segment.ids.first,
        "arrays": described,
        "removed": None,
    }


def _with_removed(
    folder: Path, entry: dict[str, Any], removed: np.ndarray, written: list[Path]
) -> dict[str, Any]:
    """Return the entry of a segment with its removed rows written down."""
    before = entry["removed"]
    if len(removed) == (before["shape"][0] if before else 0):  # rows are only ever added
        return entry
    file = f"removed-{secrets.token_hex(8)}.bin"
    path = folder / SEGMENTS / entry["name"] / file
    written.append(path)
    return entry | {"removed": _write_array(path, "removed", removed) | {"file": file}}


def _write_array(path: Path, name: str, values: np.ndarray) -> dict[str, Any]:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("wb") as file:
        for chunk in _chunks(np.ascontiguousarray(values, _TYPES[name])):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return {"shape": list(values.shape), "checksum": digest.hexdigest()}


def _chunks(values: np.ndarray) -> Iterator[memoryview]:
    data = values.reshape(-1).view(np.uint8).data if values.size else memoryview(b"")
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


def _read_content(folder: Path, body: dict[str, Any], kind: str | None, mmap: bool) -> Content:
    path = folder / MANIFEST
    try:
        bits, following, logs = body["bits"], body["following"], body["logs"]
        options = body["options"]
        if kind is not None and body["kind"] != kind:
            raise InputError(
                f"{folder}: an index of kind {body['kind']}, not {kind}; open it with open_index"
            )
        if not (
            isinstance(bits, int) and 8 <= bits <= 2**20 and bits % 8 == 0 and isinstance(following, int)
        ):
            raise _damaged(path)
        if not (isinstance(options, dict) and all(_is_name(name) for name in logs)):
            raise _damaged(path)
        entries = {_read_segment(folder, entry, bits, mmap): entry for entry in body["segments"]}
        removed = [_read_removed(folder, entry, mmap) for entry in body["segments"]]
        records, end = [], 0
        for name in logs:
            more, end = read_log(folder / LOGS / name, bits)
            records += more
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(path) from error
    state = State((*entries, FlatSegment.empty(bits)), (*removed, np.empty(0, np.int64)))
    return Content(folder, str(body["kind"]), bits, options, following, state, entries, logs, records, end)


def _read_segment(folder: Path, entry: dict[str, Any], bits: int, mmap: bool) -> Segment:
    size, arrays = entry["codes"], entry["arrays"]
    path = folder / SEGMENTS / _checked_name(entry["name"])
    if not isinstance(size, int) or not 0 < size < 2**40 or not isinstance(entry["first"], int):
        raise ValueError
    read = {
        name: _read_array(path / f"{name}.bin", name, described, mmap) for name, described in arrays.items()
    }
    words, halves = -(-bits // 64), -(-bits // 16)
    ids = SortedIds(read["ids"]) if "ids" in read else SortedIds.run(entry["first"], size)
    shapes = {"ids": (size,), "planes": (words, size), "rows": (size,)}
    flat = FlatSegment(bits, read["planes"], ids) if "planes" in read else None
    if "offsets" in read:
        tables = len(read["offsets"])
        if not 1 <= tables <= halves or size > 2**32 - 1:
            raise ValueError
        samples = read["sample"].shape[-1]
        shapes |= {
            "offsets": (tables, BUCKETS + 1),
            "rest": (tables, halves - 1, size),
            "sample": (halves, samples),
        }
    if any(values.shape != shapes.get(name) for name, values in read.items()) or len(ids) != size:
        raise ValueError
    if "offsets" not in read:
        if flat is None:
            raise ValueError
        return flat
    offsets = read["offsets"].astype(np.int64)
    if (
        np.any(offsets[:, 0] != 0)
        or np.any(offsets[:, -1] != size)
        or np.any(np.diff(offsets) < 0)
        or not samples
    ):
        raise _damaged(path / "offsets.bin")
    return TableSegment(bits, ids, read["offsets"], read["rest"], read["rows"], read["sample"], flat)


def _read_removed(folder: Path, entry: dict[str, Any], mmap: bool) -> np.ndarray:
    described = entry["removed"]
    if described is None:
        return np.empty(0, np.int64)
    path = folder / SEGMENTS / _checked_name(entry["name"]) / _checked_name(described["file"])
    rows = _read_array(path, "removed", described, mmap)
    if (
        rows.ndim != 1
        or np.any(np.diff(rows) <= 0)
        or (len(rows) and not 0 <= rows[0] <= rows[-1] < entry["codes"])
    ):
        raise _damaged(path)
    return rows


def _read_array(path: Path, name: str, described: dict[str, Any], mmap: bool) -> np.ndarray:
    """Map or read one array, after its size was compared with the shape that the manifest gives."""
    dtype, shape = np.dtype(_TYPES[name]), tuple(described["shape"])
    if not all(isinstance(n, int) and 0 <= n < 2**40 for n in shape) or not shape:
        raise ValueError
    size = dtype.itemsize
    for n in shape:
        size *= n
    if path.stat().st_size != size:
        raise InputError(
            f"{path}: {path.stat().st_size} bytes in place of {size}; restore the folder from a copy"
        )
    if not size:
        return np.empty(shape, dtype)
    if mmap and name not in _SMALL:
        # Copy on write: the kernels take one type of array, and nothing is ever written.
        return np.memmap(path, dtype, "c", shape=shape).view(np.ndarray)
    values = np.fromfile(path, dtype).reshape(shape)
    digest = hashlib.blake2b(digest_size=16)
    for chunk in _chunks(values):
        digest.update(chunk)
    if digest.hexdigest() != described["checksum"]:
        raise _damaged(path)
    return values


def digest_of(body: dict[str, Any]) -> str:
    """Return the checksum of plain data, 32 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: damaged; restore the folder from a copy")


def _is_name(name: Any) -> bool:
    return (
        isinstance(name, str)
        and name.replace("-", "").replace(".", "").isalnum()
        and not name.startswith(".")
    )


def _checked_name(name: Any) -> str:
    if not _is_name(name):
        raise ValueError
    return str(name)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
