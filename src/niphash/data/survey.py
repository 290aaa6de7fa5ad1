"""What a folder holds: its photos, told by content and not by suffix alone, and what is left out, by kind."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from niphash.data.decode import AVIF_REMEDY, HEIF_REMEDY, is_photo, reads_avif, reads_heif
from niphash.errors import InputError


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


#: A file of one of these is a photo until it is read; all other files are looked into.
PHOTO_SUFFIXES = _suffixes("jpg jpeg jpe jfif mpo png webp bmp dib gif tif tiff ppm pgm pbm pnm")
HEIF_SUFFIXES = _suffixes("heic heif hif heics heifs")
AVIF_SUFFIXES = _suffixes("avif avifs")
#: Pictures that nothing here reads. Camera raw files begin like TIFF, but what is found there is a thumbnail.
UNREAD_SUFFIXES = _suffixes(
    "dng nef nrw cr2 cr3 crw arw srf sr2 orf rw2 pef raf srw x3f 3fr iiq erf kdc mrw rwl "
    "jxl jp2 j2k jpx psd psb svg xcf ai eps exr hdr ico icns tga"
)
#: Folders in which systems keep thumbnails, deleted files and copies (names in lower case).
SYSTEM_FOLDERS = frozenset(
    {
        "@eadir",
        "__macosx",
        "#recycle",
        "@recycle",
        "@recently-snapshot",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    }
)
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
#: Kinds that a summary names one by one.
MOST_KINDS = 8
_PLAIN_NAME = re.compile(r"[@#._A-Za-z0-9+$-][@#._A-Za-z0-9+$ -]{0,30}")


@dataclass(frozen=True)
class Survey:
    """How many photos a folder holds and what else there is.

    Attributes:
        photos: Number of photos taken.
        left_out: Pictures that are not taken, and why: ``{"in @eaDir": 14, ".heic (...)": 2}``.
        others: Files that are no pictures, by suffix: ``{".txt": 3}``.
    """

    photos: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)

    def summary(self, unread: Iterable[str] = ()) -> str:
        """Return one line: how many photos, what was left out and why.

        Args:
            unread: The reasons for which photos could not be read later, one a photo
                (:attr:`niphash.data.decode.UnreadableImage.reason`).
        """
        unread = Counter(kind_of(reason) for reason in unread)
        photos = self.photos - unread.total()
        line = f"{photos} photo{'s' * (photos != 1)}"
        kinds = [*self.left_out.items(), *unread.items(), *self.others.items()]
        return f"{line}; left out: {_listed(kinds)}" if kinds else line

    def notes(self) -> tuple[str, ...]:
        """Return a sentence on the pictures left out, none where there are none."""
        return (f"left out: {_listed(list(self.left_out.items()))}",) if self.left_out else ()

    def aside(self) -> str:
        """Return the summary in brackets, for an error; nothing where there is nothing to say."""
        return f" ({self.summary()})" if self.left_out or self.others else ""

    def leaving_out(self, kind: str, count: int) -> "Survey":
        """Return the survey after ``count`` of its photos were left out because of ``kind``."""
        if not count:
            return self
        left_out = {**self.left_out, kind: self.left_out.get(kind, 0) + count}
        return replace(self, photos=self.photos - count, left_out=left_out)


def kind_of(reason: str) -> str:
    """Return the kind of a reason for which a photo cannot be read: ``truncated``, ``damaged``, ``empty``."""
    text = reason.removeprefix("is ")
    return text if "(install" in text else text.partition(" (")[0].partition(", ")[0]


def user_path(text: Path | str) -> Path:
    """Return the path that a user wrote; a ``~`` that the shell left alone becomes the home folder."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser fails for a user it does not know


def look_through(root: Path, known: Iterable[str] = ()) -> tuple[list[Path], Survey]:
    """Return the photos below ``root``, ordered by path, and the survey of everything there.

    Links to files and folders are followed; a folder that was seen already (a loop) is not entered again.
    Folders and files of systems are left out.

    Args:
        root: The folder.
        known: Names of files in it that serve another purpose (tables of labels); not counted.

    Raises:
        InputError: a folder cannot be read.
    """
    photos: list[Path] = []
    left_out: Counter[str] = Counter()
    others: Counter[str] = Counter()
    aside = {os.fspath(root / name) for name in known}
    for path in walk_files(root, left_out):
        reason = _why_no_photo(path)
        if reason is None:
            photos.append(path)
        elif reason:
            left_out[reason] += 1
        elif os.fspath(path) not in aside:
            others[_plain(path.suffix.lower(), "without suffix", "of other kinds")] += 1
    photos.sort(key=os.fspath)
    return photos, Survey(len(photos), dict(sorted(left_out.items())), dict(sorted(others.items())))


def image_files(root: Path) -> list[Path]:
    """Return the photos below ``root``, ordered by path; none where it does not exist."""
    return look_through(root)[0]


def is_photo_file(path: Path) -> bool:
    """Return whether a file is taken for a photo, by suffix or content."""
    return path.is_file() and _why_no_photo(path) is None


def is_system_folder(name: str) -> bool:
    """Return whether a folder of this name is one that systems keep, or hidden."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def walk_files(root: Path, left_out: Counter[str] | None = None) -> Iterator[Path]:
    """Yield the regular files below ``root`` that are neither hidden nor a system's.

    Links are followed, folders behind links after all others; each folder is entered once.

    Args:
        root: The folder; nothing is yielded where it does not exist.
        left_out: When given, pictures that are passed over are counted here, by kind.

    Raises:
        InputError: a folder cannot be read.
    """
    left_out = Counter() if left_out is None else left_out
    pending, linked = [os.fspath(root)] if root.is_dir() else [], list[str]()
    seen: set[tuple[int, int]] = set()
    while pending or linked:
        behind_link = not pending
        folder = linked.pop(0) if behind_link else pending.pop()
        entries = _entries(folder, seen)
        if entries is None:
            left_out["linked folder seen already"] += behind_link
            continue
        folders = []
        for entry in entries:
            if entry.is_dir():
                if is_system_folder(entry.name):
                    _count_pictures(entry, left_out)
                elif entry.is_symlink():
                    linked.append(entry.path)
                else:
                    folders.append(entry.path)
            elif entry.name.startswith(".") or entry.name.lower() in SYSTEM_FILES:
                left_out["hidden"] += _has_picture_suffix(entry.name)
            elif entry.is_file():
                yield Path(entry.path)
            elif entry.is_symlink():
                left_out["broken link"] += 1
        pending += reversed(folders)
        for kind in [kind for kind, count in left_out.items() if not count]:
            del left_out[kind]


def _entries(folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]] | None:
    """Return what is in a folder, by name; ``None`` when it has been entered before."""
    try:
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            return None
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: this folder cannot be read ({error.strerror})") from error


def _why_no_photo(path: Path) -> str | None:
    """Return ``None`` for a photo, why a picture is not taken, or nothing for a file of another kind."""
    suffix = path.suffix.lower()
    if suffix in PHOTO_SUFFIXES:
        return None
    if suffix in UNREAD_SUFFIXES:
        return f"{suffix} (cannot be read)"
    for suffixes, readable, remedy in (
        (HEIF_SUFFIXES, reads_heif, HEIF_REMEDY),
        (AVIF_SUFFIXES, reads_avif, AVIF_REMEDY),
    ):
        if suffix in suffixes:
            return None if readable() or is_photo(path) else f"{suffix} ({remedy})"
    return None if is_photo(path) else ""


def _has_picture_suffix(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - no path is needed
    return suffix in PHOTO_SUFFIXES or suffix in HEIF_SUFFIXES or suffix in AVIF_SUFFIXES


def _count_pictures(folder: os.DirEntry[str], left_out: Counter[str]) -> None:
    """Count the pictures in a folder that is passed over."""
    pictures = sum(_has_picture_suffix(name) for _, _, names in os.walk(folder.path) for name in names)
    left_out[f"in {_plain(folder.name, 'a folder', 'a hidden folder')}"] += pictures


def _plain(name: str, empty: str, strange: str) -> str:
    """Return a name that a file system gave, or a word for it when a terminal might not take it."""
    return name if _PLAIN_NAME.fullmatch(name) else strange if name else empty


def _listed(kinds: list[tuple[str, int]]) -> str:
    kinds.sort(key=lambda kind: -kind[1])
    shown = [f"{count} {kind}" for kind, count in kinds[:MOST_KINDS]]
    rest = sum(count for _, count in kinds[MOST_KINDS:])
    return ", ".join([*shown, f"{rest} of {len(kinds) - MOST_KINDS} other kinds"] if rest else shown)
