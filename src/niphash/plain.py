"""Plain data from files that others may have written: YAML and JSON, read within limits, and shown safely.

A model or an index is a folder that people share, so nothing in it is believed: a file has a largest size,
values nest only so deep, YAML aliases (which can stand for billions of values) are refused.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from niphash.errors import InputError

LARGEST_BYTES = 4 * 2**20  # of a file of configuration
DEEPEST = 32  # levels of nesting
MOST_VALUES = 200_000  # in one YAML file


def read_yaml(path: Path, remedy: str) -> Any:
    """Return the plain containers, text and numbers of a YAML file.

    Args:
        path: The file.
        remedy: What the user can do when it cannot be read, for the message.

    Raises:
        InputError: it is missing, too large or no YAML; it nests too deeply, or holds aliases.
    """
    text = _read_text(path, LARGEST_BYTES, remedy)
    try:
        _check_events(text, path, remedy)
        return yaml.load(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: no readable YAML; {remedy}") from error


def read_json(path: Path, remedy: str, largest_bytes: int = LARGEST_BYTES) -> dict[str, Any]:
    """Return the object of a JSON file.

    Args:
        path: The file.
        remedy: What the user can do when it cannot be read, for the message.
        largest_bytes: Size above which it is not read.

    Raises:
        InputError: it is missing, too large, no JSON, no object, or nests too deeply.
    """
    value = _read_json(path, remedy, largest_bytes)
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds no JSON object; {remedy}")
    return value


def read_json_objects(path: Path, remedy: str, largest_bytes: int = LARGEST_BYTES) -> list[dict[str, Any]]:
    """Return the objects of a JSON file that holds one object, or a list of them.

    Args:
        path: The file.
        remedy: What the user can do when it cannot be read, for the message.
        largest_bytes: Size above which it is not read.

    Raises:
        InputError: it is missing, too large, no JSON, nests too deeply, or holds something else.
    """
    value = _read_json(path, remedy, largest_bytes)
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, dict) for one in values):
        raise InputError(f"{path}: holds no JSON object and no list of them; {remedy}")
    return values


def _read_json(path: Path, remedy: str, largest_bytes: int) -> Any:
    text = _read_text(path, largest_bytes, remedy)
    try:
        value = json.loads(text)
        _check_depth(value)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged; {remedy}") from error
    return value


def printable(text: str) -> str:
    """Return ``text`` with everything that a terminal would obey, or cannot encode, written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _read_text(path: Path, largest_bytes: int, remedy: str) -> str:
    try:
        size = path.stat().st_size
        if size > largest_bytes:
            raise InputError(f"{path}: {size} bytes, more than the {largest_bytes} it may have; {remedy}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: missing or damaged; {remedy}") from error


def _check_events(text: str, path: Path, remedy: str) -> None:
    """Refuse aliases, depth and size before any value is made of them."""
    depth = 0
    for values, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{path}: holds a YAML alias (*{printable(event.anchor)}); {remedy}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST or values > MOST_VALUES:
            raise InputError(f"{path}: nests too deeply or holds too many values; {remedy}")


def _check_depth(value: Any, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise ValueError("nests too deeply")
    if isinstance(value, dict):
        value = value.values()
    if not isinstance(value, str) and hasattr(value, "__iter__"):
        for inner in value:
            _check_depth(inner, depth + 1)
