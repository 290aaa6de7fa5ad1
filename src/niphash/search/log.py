"""The log of an index: each addition and removal, on the disk before the call returns.

A record is a header (what, how many, checksums of the content and of itself), ids int64, and for an
addition the codes. What a kill cuts short is at the end, and is dropped; everything before it must be as it
was written.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from niphash.errors import InputError

MAGIC = b"niphash log 1\n\0\0"
_HEADER = struct.Struct("<BxxxIQ")  # kind, checksum of the content, number of ids
_CHECKSUM = struct.Struct("<I")  # of the header
_ADDITION, _REMOVAL = 1, 2


class Record(NamedTuple):
    """A change of an index.

    Attributes:
        ids: int64 [N].
        codes: uint8 [N, bits // 8] that were added, or ``None``: removed.
    """

    ids: np.ndarray
    codes: np.ndarray | None


class Log:
    """Writes one log file.

    Args:
        path: A new file, or one that a writer left; it goes on at ``end``.
        end: Where the last whole record ends, as :func:`read_log` returns it.
    """

    def __init__(self, path: Path, end: int = 0) -> None:
        self.path = path
        self._end = max(end, len(MAGIC))
        try:
            self._file: BinaryIO = path.open("r+b" if path.exists() else "xb", buffering=0)
            if end < len(MAGIC):
                self._file.write(MAGIC)
            self._rewind()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(path, error) from error

    def append(self, record: Record) -> None:
        """Write a record to the disk.

        Raises:
            InputError: there is no room; the log is as it was.
        """
        kind = _REMOVAL if record.codes is None else _ADDITION
        content = np.ascontiguousarray(record.ids, "<i8").tobytes()
        content += b"" if record.codes is None else record.codes.tobytes()
        header = _HEADER.pack(kind, zlib.crc32(content), len(record.ids))
        data = header + _CHECKSUM.pack(zlib.crc32(header)) + content
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
            os.fsync(self._file.fileno())
        except OSError as error:
            self._rewind()
            raise _unwritable(self.path, error) from error
        self._end += len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rewind(self) -> None:
        self._file.truncate(self._end)
        self._file.seek(self._end)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: could not be written ({error.strerror}); the index is as it was, make room and try again"
    )


def read_log(path: Path, bits: int) -> tuple[list[Record], int]:
    """Return the whole records of a log, and where the last one ends.

    Raises:
        InputError: a byte is not as it was written.
    """
    data = path.read_bytes()
    damaged = f"{path}: damaged at byte {{}}; restore the folder from a copy"
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise InputError(damaged.format(0))
    records, end, width = [], min(len(MAGIC), len(data)), bits // 8
    size = _HEADER.size + _CHECKSUM.size
    while len(data) - end >= size and any(data[end:]):
        header, start = data[end : end + _HEADER.size], end + size
        if _CHECKSUM.unpack_from(data, end + _HEADER.size)[0] != zlib.crc32(header):
            raise InputError(damaged.format(end))
        kind, checksum, count = _HEADER.unpack(header)
        stop = start + count * (8 + (width if kind == _ADDITION else 0))
        if stop > len(data):
            break
        content = data[start:stop]
        if zlib.crc32(content) != checksum or kind not in (_ADDITION, _REMOVAL):
            raise InputError(damaged.format(end))
        ids = np.frombuffer(content, "<i8", count).astype(np.int64)
        codes = (
            np.frombuffer(content, np.uint8, offset=8 * count).reshape(count, width)
            if kind == _ADDITION
            else None
        )
        records.append(Record(ids, codes))
        end = stop
    return records, end
