"""Writing where other people's files may lie: through no link, and whole or not at all."""

import os
import tempfile
from pathlib import Path

from niphash.errors import InputError, writing


def check_folder(folder: Path, option: str) -> None:
    """Refuse a folder in which nothing can be written, before any long work; it need not exist yet.

    Args:
        folder: Where something will be written.
        option: What the user can set to name another one (``hydra.run.dir``, ``--out``).

    Raises:
        InputError: a file is in the way, or the folder (or the one it will lie in) takes no new file.
    """
    with writing(folder, f"name another folder by {option}"):
        tempfile.TemporaryFile(dir=_nearest(folder)).close()


def check_file(path: Path, option: str) -> None:
    """Refuse a file that cannot be written, before any long work; its folder must exist.

    Args:
        path: The file.
        option: What the user can set to name another one.

    Raises:
        InputError: it is a folder, or its folder is missing or takes no new file.
    """
    with writing(path, f"name another file by {option}"):
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        tempfile.TemporaryFile(dir=path.parent).close()


def refuse_file(folder: Path, option: str) -> None:
    """Refuse a folder where a file is in the way; one that cannot be written may still be read.

    Raises:
        InputError: it, or a folder above it, is a file.
    """
    with writing(folder, f"name another folder by {option}"):
        if not _nearest(folder).is_dir():
            raise NotADirectoryError(None, f"{_nearest(folder)} is a file")


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or what there is of those above it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


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
