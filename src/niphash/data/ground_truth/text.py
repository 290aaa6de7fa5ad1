"""Reading of text files that are not believed: size, encoding and line number in every error."""

from pathlib import Path

from niphash.errors import InputError

MAX_TEXT_BYTES = 64 * 2**20


def read_bytes(path: Path, limit: int = MAX_TEXT_BYTES) -> bytes:
    """Return a file's content.

    Raises:
        InputError: it is missing, no regular file, or larger than ``limit`` bytes.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > limit:
        raise InputError(f"{path}: larger than {limit // 2**20} MiB; this is no ground-truth file")
    return content


def read_text(path: Path) -> str:
    """Return a text file in UTF-8 (with or without byte-order mark)."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8 (byte {error.start})") from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines that are not blank with their numbers, counted from 1."""
    lines = enumerate(read_text(path).replace("\r\n", "\n").split("\n"), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]
