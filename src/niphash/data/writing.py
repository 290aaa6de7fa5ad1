"""Writing where other people's files may lie: through no link, and whole or not at all."""

import os
import tempfile
from pathlib import Path

from niphash.errors import InputError


def refuse_links(folder: Path, *paths: Path) -> None:
    """Refuse to write below ``folder`` where a link is in the way; ``folder`` itself may be one.

    Args:
        folder: What the user named.
        *paths: Below it, what is to be written; everything that lies in it already when none is given.

    Raises:
        InputError: one of them, or a folder above one of them, is a link.
    """
    for path in paths or _everything(folder):
        step = folder
        for part in path.relative_to(folder).parts:
            step = step / part
            if step.is_symlink():
                raise InputError(
                    f"{step}: is a link, and nothing is written through links; remove it, or name the folder "
                    "that it leads to"
                )


def write_whole(path: Path, content: str) -> None:
    """Write a text file in UTF-8: a reader sees the old or the new one; a link in its place is replaced.

    Raises:
        OSError: it cannot be written.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)  # as of any new file; a temporary one is its owner's alone
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _everything(folder: Path) -> list[Path]:
    return [
        Path(parent) / name
        for parent, folders, files in os.walk(folder)
        for name in sorted([*folders, *files])
    ]
