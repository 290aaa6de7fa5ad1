"""The ground truth ``gnd_{oxford5k,paris6k,holidays}.mat``: MATLAB v5, indices from 1.

``imlist`` names the database, ``qidx`` the queries in it; ``gnd.ok`` is relevant (good and ok), ``gnd.junk``
is junk, ``gnd.bbx`` the box. The file is read here, as far as such a file goes (MAT-file format, level 5),
and nothing is believed that its bytes do not hold: scipy's reader ends the process on some damaged files.
"""

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
VARIABLES = frozenset({"imlist", "qidx", "gnd"})
_COMPRESSED, _MATRIX = 15, 14
#: Element types that hold numbers, as numpy names them.
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
#: Element types that hold text, and their encoding; UTF-16 in the byte order of the file.
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
#: Classes of matrices that a ground truth is made of.
_CELLS, _STRUCTURES, _TEXT, _NUMERIC = 1, 2, 4, range(6, 16)
_COMPLEX = 0x0800  # a flag beside the class


def read_matlab_truth(path: Path) -> GroundTruth:
    """Read a ground-truth file.

    Raises:
        InputError: it is no MATLAB v5 file, malformed, or its indices lie outside its image list.
    """
    content = _load(path)
    try:
        if not isinstance(content["imlist"], list):
            raise ValueError("imlist is no list of names")
        images = tuple(_text(cell) for cell in content["imlist"])
        query_rows = _indices(content["qidx"])
        truths = content["gnd"]
        if len(truths) != len(query_rows) or not all({"ok", "junk"} <= truth.keys() for truth in truths):
            raise ValueError(f"{len(query_rows)} queries and {len(truths)} entries in gnd (ok, junk)")
        queries = []
        for number, (row, truth) in enumerate(zip(query_rows, truths, strict=True), start=1):
            image = _named(images, [row])[0]
            box = parse_box(truth["bbx"], f"{path}, query {number}") if "bbx" in truth else None
            relevant, junk = _named(images, _indices(truth["ok"])), _named(images, _indices(truth["junk"]))
            check_labels(relevant, junk, f"{path}, query {number}")
            queries.append(QueryTruth(image, image, box, relevant, junk))
    except InputError:
        raise
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: not a ground truth with imlist, qidx and gnd ({error})") from error
    return GroundTruth(tuple(queries), images)


def _load(path: Path) -> dict[str, Any]:
    """Return what a file holds of :data:`VARIABLES`, see :func:`_matrix`."""
    content = read_bytes(path)
    if len(content) < HEADER_BYTES or not content.startswith(b"MATLAB 5.0 MAT-file"):
        raise InputError(f"{path}: not a MATLAB v5 file; save it with -v7")
    try:
        return _variables(content)
    except (KeyError, ValueError, zlib.error, struct.error) as error:
        raise InputError(f"{path}: damaged MATLAB file ({error})") from error


def _variables(content: bytes) -> dict[str, Any]:
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise ValueError("says in no byte order what it holds")
    found, position, total = {}, HEADER_BYTES, 0
    while position < len(content):
        kind, body, position = _element(content, position, len(content), order)
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            whole = unpacker.decompress(content[body[0] : body[1]], MAX_UNPACKED_BYTES - total)
            if unpacker.unconsumed_tail:
                raise ValueError(f"unpacks to more than {MAX_UNPACKED_BYTES} bytes")
            total += len(whole)
            kind, body, _ = _element(whole, 0, len(whole), order)
        else:
            whole = content
        if kind != _MATRIX:
            raise ValueError("a variable is no matrix")
        name = _name(whole, body, order)
        if name in VARIABLES:
            found[name] = _matrix(whole, body, order, 0)
    return found


def _name(data: bytes, span: tuple[int, int], order: str) -> str:
    """Return the name of a variable, the third element of its matrix."""
    position, body = span[0], (0, 0)
    for _ in range(3):
        _, body, position = _element(data, position, span[1], order)
    return data[body[0] : body[1]].decode("latin-1")


def _matrix(data: bytes, span: tuple[int, int], order: str, depth: int) -> Any:
    """Return what a matrix holds: a list of what cells hold, a list of structures, text, or numbers [n].

    Args:
        data: The file, or a variable unpacked.
        span: First byte of the matrix and the one behind its last.
        order: Of bytes, as :mod:`struct` writes it.
        depth: How many matrices it lies in.

    Raises:
        ValueError: it is damaged, or of another class.
    """
    if depth > MAX_NESTING:
        raise ValueError("nested too deeply")
    if span[0] == span[1]:  # an empty matrix without any content
        return np.empty(0)
    kinds, parts, position = [], [], span[0]
    while position < span[1]:
        kind, body, position = _element(data, position, span[1], order)
        kinds.append(kind)
        parts.append(body)
    if kinds[:3] != [6, 5, 1] or parts[0][1] - parts[0][0] != 8:
        raise ValueError("a matrix begins with no flags, dimensions and name")
    (flags,) = struct.unpack_from(f"{order}I", data, parts[0][0])
    dims = np.frombuffer(data[slice(*parts[1])], f"{order}i4").tolist()
    count = math.prod(dims)
    if any(dim < 0 for dim in dims) or count > span[1] - span[0]:
        raise ValueError(f"declares {'x'.join(map(str, dims))} elements in {span[1] - span[0]} bytes")
    matrix_class, kinds, parts = flags & 0xFF, kinds[3:], parts[3:]
    if matrix_class == _CELLS and kinds == [_MATRIX] * count:
        return [_matrix(data, part, order, depth + 1) for part in parts]
    if matrix_class == _STRUCTURES and kinds[:2] == [5, 1] and set(kinds[2:]) <= {_MATRIX}:
        names = _field_names(data, parts[:2], order)
        if len(parts) - 2 != count * len(names):
            raise ValueError("structures lack fields")
        values = [_matrix(data, part, order, depth + 1) for part in parts[2:]]
        rows = range(0, len(values), len(names)) if names else range(0)
        return [dict(zip(names, values[row : row + len(names)], strict=True)) for row in rows]
    if len(parts) != 1 or flags & _COMPLEX:
        raise ValueError("a matrix lacks a part, or has one too many")
    content = data[slice(*parts[0])]
    if matrix_class == _TEXT and kinds[0] in _TEXTS:
        encoding = _TEXTS[kinds[0]] + {"<": "-le", ">": "-be"}[order] * (_TEXTS[kinds[0]] == "utf-16")
        return content.decode(encoding)
    if matrix_class in _NUMERIC and kinds[0] in _NUMBERS:
        numbers = np.frombuffer(content, f"{order}{_NUMBERS[kinds[0]]}")
        if len(numbers) != count:
            raise ValueError(f"{len(numbers)} numbers where there should be {count}")
        return numbers
    raise ValueError("a matrix of a class that no ground truth has")


def _field_names(data: bytes, parts: list[tuple[int, int]], order: str) -> list[str]:
    """Return the names of a structure's fields, of one length in the file, padded with zeros."""
    (length,) = struct.unpack_from(f"{order}i", data, parts[0][0])
    text = data[slice(*parts[1])]
    if length < 1 or len(text) % length:
        raise ValueError("structures have no names of fields")
    names = [text[at : at + length].split(b"\0")[0].decode("latin-1") for at in range(0, len(text), length)]
    if len(set(names)) != len(names):
        raise ValueError("two fields have one name")
    return names


def _element(data: bytes, position: int, end: int, order: str) -> tuple[int, tuple[int, int], int]:
    """Return type and span of the element at ``position``, and where the next one is, at most ``end``."""
    if position + 8 > end:
        raise ValueError("ends in the middle of an element")
    kind, size = struct.unpack_from(f"{order}II", data, position)
    body = position + 8
    if kind >> 16:  # the small form: type and size in four bytes, up to four bytes behind them
        kind, size, body = kind & 0xFFFF, kind >> 16, position + 4
        following = position + 8
        if size > 4:
            raise ValueError("a small element of more than four bytes")
    else:
        # compressed variables follow one another without padding
        following = body + size + (0 if kind == _COMPRESSED else -size % 8)
    if body + size > end:
        raise ValueError("an element reaches beyond what it lies in")
    return kind, (body, body + size), min(following, end)


def _text(cell: Any) -> str:
    if not isinstance(cell, str) or not cell:
        raise ValueError("an entry of imlist is no name")
    return cell.removesuffix(".jpg")


def _indices(values: Any) -> np.ndarray:
    """Return numbers that count from 1 as int64 [n] that count from 0."""
    if not isinstance(values, np.ndarray):
        raise ValueError("text where numbers should be")
    return values.astype(np.int64) - 1


def _named(images: tuple[str, ...], rows: Any) -> tuple[str, ...]:
    if any(not 0 <= row < len(images) for row in rows):
        raise ValueError("an index lies outside imlist")
    return tuple(images[row] for row in rows)
