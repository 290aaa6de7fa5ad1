"""Names of photos: found again in another Unicode form or case, and written where only text can be."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from niphash.errors import InputError

_UNDECODED = re.compile("[\udc80-\udcff]")  # how Python holds the bytes of a file name that are not UTF-8
_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2})")


def portable_name(name: str) -> str:
    r"""Return a file name as text that any UTF-8 file holds; :func:`native_name` gives it back.

    Bytes that are not UTF-8 become ``\xe9``, and in names that hold such bytes or look as if they did a
    backslash is doubled. Other names stay as they are.
    """
    if not _UNDECODED.search(name) and not _ESCAPE.search(name):
        return name
    return _UNDECODED.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", name.replace("\\", "\\\\"))


def native_name(text: str) -> str:
    """Return the file name of which :func:`portable_name` made ``text``."""
    if not _ESCAPE.search(text):
        return text
    return _ESCAPE.sub(lambda found: "\\" if found[1] == "\\" else chr(0xDC00 + int(found[1][1:], 16)), text)


def folded(name: str) -> str:
    """Return what names share that differ in case, in Unicode form (NFC, NFD) or in blanks around them."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.strip()).casefold())


class NameTable:
    """Rows by name. The name as it is goes first, then as :func:`portable_name` writes it, then folded."""

    def __init__(self, names: Sequence[str]) -> None:
        self._exact = {name: row for row, name in enumerate(names)}
        self._folded: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            self._folded.setdefault(folded(name), []).append(row)
        self._names = names

    def find(self, name: str, where: str) -> int | None:
        """Return the row of ``name``, or ``None`` where there is no such name.

        Args:
            name: As a table or a user writes it.
            where: File and line of it, for the message.

        Raises:
            InputError: it is none of the names exactly and could be several.
        """
        for form in (name, native_name(name), PurePosixPath(name).as_posix()):
            if form in self._exact:
                return self._exact[form]
        rows = self._folded.get(folded(native_name(name)), [])
        if len(rows) > 1:
            first, second = (portable_name(self._names[row]) for row in rows[:2])
            raise InputError(f"{where}: {name!r} may be {first!r} or {second!r}; write it exactly")
        return rows[0] if rows else None


def respelled(names: Sequence[str], official: Iterable[str]) -> tuple[str, ...]:
    """Return ``names`` spelled as in ``official`` where only case or Unicode form differ."""
    official = set(official)
    spelling: dict[str, str] = {folded(name): name for name in sorted(official)}
    taken = official & set(names)
    found = []
    for name in names:
        other = spelling.get(folded(name), name)
        if name not in official and other not in taken:
            taken.add(other)
            name = other
        found.append(name)
    return tuple(found)
