"""Small JSON files that remember how far a download has come."""

import json
import os
from pathlib import Path
from typing import Any

from niphash.errors import InputError


def read_record(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one where there is no file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); delete it and run again") from error
    return value if isinstance(value, dict) else {}


def write_record(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object whole: a reader sees the old one or the new one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True), encoding="utf-8")
    temporary.replace(path)
