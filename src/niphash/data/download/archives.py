"""Unpacking of downloaded archives, which are not believed: nothing is written outside one folder.

Members are checked one by one before they are written. A path that is absolute or climbs with ``..``, a
link, a device, more members or more bytes than the limits allow, a link that lies in the data folder where
something is to be written: each ends the unpacking with one clear error, and nothing of the archive reaches
the data folder.
"""

import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from niphash.data.writing import refuse_links
from niphash.errors import InputError

MAX_MEMBERS = 2_000_000
MAX_BYTES = 200 * 2**30
#: An archive may not grow by more than this factor (photos hardly shrink; a bomb of zeros shrinks 1000-fold).
MAX_RATIO = 4
#: Below this size in bytes the factor is not looked at: ground truth in text files packs well.
RATIO_FREE_BYTES = 64 * 2**20
COPY_BYTES = 2**20
TAR_OVERHEAD_BYTES = 2**24  # headers and padding of a small archive; a large one has room in its ratio
SUFFIXES = (".tar", ".tgz", ".tar.gz", ".zip")


class Limits(NamedTuple):
    """How much an archive may hold: files, bytes in all, and bytes an archive byte."""

    members: int = MAX_MEMBERS
    size: int = MAX_BYTES
    ratio: int = MAX_RATIO
    ratio_free: int = RATIO_FREE_BYTES


class _Member(NamedTuple):
    name: str
    size: int
    kind: str  # file | folder | link | device
    source: object


def is_archive(path: Path) -> bool:
    """Return whether the file's name says that it is an archive this module unpacks."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> int:
    """Unpack a tar, tgz or zip file into ``folder`` and return the number of files written.

    The files are written to a hidden folder beside ``folder``'s content first and moved into place when the
    whole archive has been read without a fault; an interrupted unpacking leaves nothing half-written.

    Raises:
        InputError: the archive is damaged, or holds what it must not hold.
    """
    limits = limits or Limits()
    staging = folder / f".unpacking-{archive.name}"
    refuse_links(folder, staging)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        count = _unpack_members(archive, staging, limits)
        _merge(staging, folder)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise InputError(f"{archive}: damaged archive ({error}); fetch it again") from error
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{archive}: cannot be unpacked into {folder} ({error})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return count


def _unpack_members(archive: Path, staging: Path, limits: Limits) -> int:
    written = files = 0
    allowed = min(limits.size, max(limits.ratio_free, limits.ratio * archive.stat().st_size))
    with _open(archive, allowed) as (members, read):
        for number, member in enumerate(members):
            if number >= limits.members:
                raise InputError(
                    f"{archive}: more than {limits.members} members; this is not the official archive"
                )
            target = _safe_target(archive, staging, member)
            if member.kind == "folder":
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with read(member) as source, target.open("wb") as out:
                while block := source.read(COPY_BYTES):
                    written += len(block)
                    if written > allowed:
                        raise _too_large(archive, allowed)
                    out.write(block)
            files += 1
    if not files:
        raise InputError(f"{archive}: damaged archive (it holds no file); fetch it again")
    return files


def _safe_target(archive: Path, staging: Path, member: _Member) -> Path:
    name = member.name.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if "\0" in name or name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
        raise InputError(f"{archive}: member {member.name!r} points outside the folder; not unpacked")
    if member.kind in ("link", "device"):
        raise InputError(f"{archive}: member {member.name!r} is a {member.kind}; not unpacked")
    if not parts and member.kind == "file":
        raise InputError(f"{archive}: a member has no name; not unpacked")
    return staging.joinpath(*parts)


@contextmanager
def _open(archive: Path, allowed: int) -> Iterator[tuple[Iterator[_Member], Callable[[_Member], IO[bytes]]]]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            yield _zip_members(zipped), lambda member: zipped.open(member.source)  # type: ignore[arg-type]
        return
    with archive.open("rb") as raw:
        zipped_tar = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if zipped_tar else raw
        limited = _Limited(stream, archive, allowed)
        with tarfile.open(fileobj=limited, mode="r|") as tar:  # type: ignore[call-overload]
            yield _tar_members(tar), lambda member: _tar_file(tar, member)
        while limited.read(COPY_BYTES):  # to the end, where gzip keeps its checksum
            pass


class _Limited:
    """A stream that refuses to go on after ``allowed`` bytes: headers of a tar file count as well."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, archive: Path, allowed: int) -> None:
        self._stream, self._archive, self._allowed, self._seen = stream, archive, allowed, 0

    def read(self, size: int) -> bytes:
        block = self._stream.read(size)
        self._seen += len(block)
        if self._seen > self._allowed + TAR_OVERHEAD_BYTES:
            raise _too_large(self._archive, self._allowed)
        return block


def _too_large(archive: Path, allowed: int) -> InputError:
    return InputError(f"{archive}: unpacks to more than {allowed} bytes; this is not the official archive")


def _zip_members(zipped: zipfile.ZipFile) -> Iterator[_Member]:
    for info in zipped.infolist():
        mode = info.external_attr >> 16
        kind = "folder" if info.is_dir() else "link" if stat.S_ISLNK(mode) else "file"
        yield _Member(info.filename, info.file_size, kind, info)


def _tar_members(tar: tarfile.TarFile) -> Iterator[_Member]:
    for info in tar:
        link = info.issym() or info.islnk()
        kind = "folder" if info.isdir() else "link" if link else "file" if info.isfile() else "device"
        yield _Member(info.name, info.size, kind, info)


def _tar_file(tar: tarfile.TarFile, member: _Member) -> IO[bytes]:
    source = tar.extractfile(member.source)  # type: ignore[arg-type]
    if source is None:
        raise tarfile.ReadError(f"member {member.name!r} has no content")
    return source


def _merge(staging: Path, folder: Path) -> None:
    paths = sorted(staging.rglob("*"))
    refuse_links(folder, *(folder / path.relative_to(staging) for path in paths))
    for path in paths:
        target = folder / path.relative_to(staging)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            path.replace(target)
