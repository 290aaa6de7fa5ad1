"""The ground truth ``gnd_{oxford5k,paris6k,holidays}.mat``: MATLAB v5, indices from 1.

``imlist`` names the database, ``qidx`` the queries in it; ``gnd.ok`` is relevant (good and ok), ``gnd.junk``
is junk, ``gnd.bbx`` the box. scipy reads the file, after its elements have been measured here: a file that
declares more than it holds, or unpacks to more than the limit, never reaches scipy.
"""

import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from niphash.data.ground_truth.queries import GroundTruth, QueryTruth, check_labels, parse_box
from niphash.data.ground_truth.text import read_bytes
from niphash.errors import InputError

HEADER_BYTES = 128
MAX_UNPACKED_BYTES = 256 * 2**20
MAX_NESTING = 4
_COMPRESSED, _MATRIX = 15, 14
#: Element types of MATLAB v5: numbers of 1, 2, 4, 8 bytes, text, nested matrices.
_TYPES = frozenset(range(1, 19))


def read_matlab_truth(path: Path) -> GroundTruth:
    """Read a ground-truth file.

    Raises:
        InputError: it is no MATLAB v5 file, malformed, or its indices lie outside its image list.
    """
    content = _load(path)
    try:
        images = tuple(_text(cell) for cell in content["imlist"].ravel())
        query_rows = content["qidx"].ravel().astype(np.int64) - 1
        truths = content["gnd"].ravel()
        fields = truths.dtype.names or ()
        if len(truths) != len(query_rows) or not {"ok", "junk"} <= set(fields):
            raise ValueError(f"{len(query_rows)} queries and {len(truths)} entries in gnd (ok, junk)")
        queries = []
        for number, (row, truth) in enumerate(zip(query_rows, truths, strict=True), start=1):
            image = _named(images, [row])[0]
            box = parse_box(truth["bbx"].ravel(), f"{path}, query {number}") if "bbx" in fields else None
            relevant = _named(images, truth["ok"].ravel().astype(np.int64) - 1)
            junk = _named(images, truth["junk"].ravel().astype(np.int64) - 1)
            check_labels(relevant, junk, f"{path}, query {number}")
            queries.append(QueryTruth(image, image, box, relevant, junk))
    except InputError:
        raise
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: not a ground truth with imlist, qidx and gnd ({error})") from error
    return GroundTruth(tuple(queries), images)


def _load(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    content = read_bytes(path)
    if len(content) < HEADER_BYTES or not content.startswith(b"MATLAB 5.0 MAT-file"):
        raise InputError(f"{path}: not a MATLAB v5 file; save it with -v7")
    try:
        plain = _unpacked(content)
        return loadmat(io.BytesIO(plain), variable_names=["imlist", "qidx", "gnd"])
    except Exception as error:  # whatever scipy meets in a damaged file
        raise InputError(f"{path}: damaged MATLAB file ({error})") from error


def _unpacked(content: bytes) -> bytes:
    """Return the file with its compressed variables unpacked, every element measured."""
    order = {b"IM": "<", b"MI": ">"}[content[126:128]]
    parts, position, total = [content[:HEADER_BYTES]], HEADER_BYTES, 0
    while position < len(content):
        kind, size, _ = _tag(content, position, order)
        body = content[position + 8 : position + 8 + size]
        if len(body) < size:
            raise ValueError("ends in the middle of a variable")
        position += 8 + size
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            element = unpacker.decompress(body, MAX_UNPACKED_BYTES - total)
            if unpacker.unconsumed_tail:
                raise ValueError(f"unpacks to more than {MAX_UNPACKED_BYTES} bytes")
        else:
            element = content[position - size - 8 : position]
        total += len(element)
        kind, size, _ = _tag(element, 0, order)
        if kind != _MATRIX or size + 8 > len(element):
            raise ValueError("a variable is no matrix")
        _measure(element, 8, 8 + size, order, 0)
        parts.append(element[: 8 + size])
    return b"".join(parts)


def _measure(data: bytes, start: int, end: int, order: str, depth: int) -> None:
    """Check that a matrix declares no more elements than its bytes can hold, nested matrices included."""
    if depth > MAX_NESTING:
        raise ValueError("nested too deeply")
    if start == end:  # an empty matrix without any content
        return
    position, number = start, 0
    while position < end:
        kind, size, small = _tag(data, position, order)
        body = position + (4 if small else 8)
        if kind not in _TYPES or body + size > end:
            raise ValueError("an element reaches beyond its variable")
        if number == 1:
            dims = struct.unpack_from(f"{order}{size // 4}i", data, body)
            if any(dim < 0 for dim in dims) or math.prod(dims) > max(end - start, 1):
                raise ValueError(f"declares {'x'.join(map(str, dims))} elements in {end - start} bytes")
        if kind == _MATRIX:
            _measure(data, body, body + size, order, depth + 1)
        position = body + 4 if small else body + size + (-size % 8)
        number += 1


def _tag(data: bytes, position: int, order: str) -> tuple[int, int, bool]:
    """Return type, size in bytes and whether it is the small form of the element at ``position``."""
    if position + 8 > len(data):
        raise ValueError("ends in the middle of an element")
    kind, size = struct.unpack_from(f"{order}II", data, position)
    if kind >> 16:
        return kind & 0xFFFF, kind >> 16, True
    return kind, size, False


def _text(cell: Any) -> str:
    value = np.asarray(cell).ravel()
    if value.size != 1 or value.dtype.kind != "U":
        raise ValueError("an entry of imlist is no name")
    return str(value[0]).removesuffix(".jpg")


def _named(images: tuple[str, ...], rows: Any) -> tuple[str, ...]:
    if any(not 0 <= row < len(images) for row in rows):
        raise ValueError("an index lies outside imlist")
    return tuple(images[row] for row in rows)
