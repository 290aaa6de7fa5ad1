"""CSV ground truth of the user's own: ``queries.csv``, ``relevance.csv`` and lists of matching pairs."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, cast

from niphash.data.decode import Box
from niphash.data.ground_truth.queries import parse_box
from niphash.data.ground_truth.text import read_text
from niphash.errors import InputError

EDGES = ("left", "top", "right", "bottom")
MAX_ROWS = 20_000_000


class QueryRow(NamedTuple):
    """A line of ``queries.csv``: the query's name, its photo (path relative to the folder), its box."""

    line: int
    name: str
    image: str
    box: Box | None


class LabelRow(NamedTuple):
    """A line of ``relevance.csv``."""

    line: int
    query: str
    image: str
    label: Literal["relevant", "junk"]


def read_queries(path: Path) -> tuple[QueryRow, ...]:
    """Read ``queries.csv``: a column ``image``, optionally ``query`` (its name), ``left,top,right,bottom``.

    Raises:
        InputError: a column is missing, a name empty or used twice, a box malformed; names file and line.
    """
    rows: dict[str, QueryRow] = {}
    for line, fields in _records(path, required=("image",), optional=("query", *EDGES)):
        name = fields.get("query") or fields["image"]
        edges = [fields.get(edge, "") for edge in EDGES]
        box = parse_box(edges, f"{path}, line {line}, query {name!r}") if any(edges) else None
        if name in rows:
            raise InputError(
                f"{path}, line {line}: the query {name!r} is there already; give it a name of its own"
            )
        rows[name] = QueryRow(line, name, fields["image"], box)
    if not rows:
        raise InputError(f"{path}: holds no query")
    return tuple(rows.values())


def read_relevance(path: Path, queries: frozenset[str]) -> tuple[LabelRow, ...]:
    """Read ``relevance.csv``: columns ``query,image`` and optionally ``label`` (relevant or junk).

    Args:
        path: The file.
        queries: The names that ``queries.csv`` gives.

    Raises:
        InputError: a column is missing, a query unknown, a label another word; names file and line.
    """
    rows = []
    for line, fields in _records(path, required=("query", "image"), optional=("label",)):
        label = fields.get("label") or "relevant"
        if label not in ("relevant", "junk"):
            raise InputError(f"{path}, line {line}: the label must be relevant or junk, not {label[:80]!r}")
        if fields["query"] not in queries:
            raise InputError(f"{path}, line {line}: no query {fields['query'][:80]!r} in queries.csv")
        rows.append(
            LabelRow(line, fields["query"], fields["image"], cast("Literal['relevant', 'junk']", label))
        )
    return tuple(rows)


def read_pair_rows(path: Path) -> tuple[tuple[int, str, str], ...]:
    """Read matching pairs: two image names a line, separated by a comma, a tab or blanks; ``#`` comments.

    A first line ``first,second`` (any two of image, first, second, query, a, b) is a header and left out.

    Returns:
        Line number and the two names.

    Raises:
        InputError: a line does not hold two names; names file and line.
    """
    rows: list[tuple[int, str, str]] = []
    for line, fields in _csv_rows(path):
        if len(fields) == 1:
            fields = fields[0].split("\t") if "\t" in fields[0] else fields[0].split()
        names = [field.strip() for field in fields]
        if not names or not any(names) or names[0].startswith("#"):
            continue
        if len(names) != 2 or not all(names):
            raise InputError(f"{path}, line {line}: expected two image names, found {','.join(names)[:80]!r}")
        if not rows and {name.lower() for name in names} <= _PAIR_HEADERS:
            continue
        rows.append((line, names[0], names[1]))
    if not rows:
        raise InputError(f"{path}: holds no pair")
    return tuple(rows)


_PAIR_HEADERS = {"image", "first", "second", "query", "a", "b", "image1", "image2", "image_1", "image_2"}


def _records(
    path: Path, required: tuple[str, ...], optional: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]]]:
    rows = _csv_rows(path)
    _, header = next(rows, (0, []))
    columns = [name.strip().lower() for name in header]
    if any(name not in columns for name in required) or len(set(columns)) < len(columns):
        raise InputError(
            f"{path}, line 1: expected the columns {', '.join(required)} (may follow: {', '.join(optional)})"
        )
    unknown = [name for name in columns if name not in (*required, *optional)]
    if unknown:
        raise InputError(
            f"{path}, line 1: unknown column {unknown[0][:80]!r}; known: {', '.join((*required, *optional))}"
        )
    for line, values in rows:
        if not any(value.strip() for value in values):
            continue
        if len(values) > len(columns):
            raise InputError(f"{path}, line {line}: {len(values)} values for {len(columns)} columns")
        fields = dict(zip(columns, (value.strip() for value in values), strict=False))
        for name in required:
            if not fields.get(name):
                raise InputError(f"{path}, line {line}: no {name}")
        yield line, fields


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    # line by line as the csv module wants it: a name in quotes may hold a line break
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for row in reader:
            if reader.line_num > MAX_ROWS:
                raise InputError(f"{path}: more than {MAX_ROWS} lines")
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV ({error})") from error
