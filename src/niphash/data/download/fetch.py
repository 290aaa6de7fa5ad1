"""Downloads: mirrors in order, verified, unpacked safely, once for all processes."""

import hashlib
import http.client
import sys
import urllib.error
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from niphash.data.download.archives import is_archive, unpack
from niphash.data.download.remote_files import RemoteFile
from niphash.data.download.transfer import WrongLength, download_from, read_record, write_record
from niphash.data.writing import refuse_links
from niphash.errors import InputError

RECORD = "downloads.json"


def is_interrupted(root: Path) -> bool:
    """Return whether an earlier :func:`fetch` into ``root`` was stopped while it unpacked."""
    return "unpacking" in read_record(root / RECORD)


def fetch(files: Iterable[RemoteFile], root: Path, present: Callable[[], bool]) -> None:
    """Bring ``files`` to ``root``: download, verify, unpack; what is finished already is left alone.

    One process works at a time; the others wait and then find the work done. A file of the right name that
    a person has placed in ``root`` is verified and unpacked without any network.

    Args:
        files: What to fetch.
        root: The folder of the data set, made when it is missing.
        present: Says whether the data set is there, so that nothing has to be fetched.

    Raises:
        InputError: no network, a dead link, a wrong checksum, a damaged archive; says how to place the file.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _lock(root):
            record = read_record(root / RECORD)
            interrupted = record.get("unpacking")
            if interrupted is None and present():
                return
            pending = [file for file in files if interrupted is None or file.name in interrupted]
            for file in pending:
                _obtain(file, root, record)
            _place(pending, root, record)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{root}: cannot be written ({reason}); choose another folder with data.root"
        ) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _obtain(file: RemoteFile, root: Path, record: dict[str, Any]) -> None:
    """Have ``file`` in ``root``, verified, and remember whether it was downloaded."""
    known = file.sha256 or record.get("sha256", {}).get(file.name)
    if (root / file.name).is_file():
        _verify(root / file.name, known)
        return
    _download(file, root / file.name, known)
    record["downloaded"] = sorted({*record.get("downloaded", ()), file.name})
    write_record(root / RECORD, record)


def _place(files: list[RemoteFile], root: Path, record: dict[str, Any]) -> None:
    """Unpack ``files`` where they belong, record their checksums, delete downloaded archives."""
    for position, file in enumerate(files):
        record["unpacking"] = [later.name for later in files[position:]]
        write_record(root / RECORD, record)
        archive = root / file.name
        refuse_links(root, root / file.folder)
        digest = sha256_of(archive)
        downloaded = file.name in record.get("downloaded", ())
        try:
            if is_archive(archive):
                unpack(archive, root / file.folder)
            elif file.folder != ".":
                (root / file.folder).mkdir(parents=True, exist_ok=True)
                archive.replace(root / file.folder / file.name)
        except InputError:
            if downloaded:
                archive.unlink()
            if position == 0:  # nothing of this data set is on disk yet, so nothing has to be finished
                del record["unpacking"]
            write_record(root / RECORD, record)
            raise
        if is_archive(archive) and downloaded:
            archive.unlink()
        record.setdefault("sha256", {})[file.name] = digest
    record.pop("unpacking", None)
    write_record(root / RECORD, record)


def _verify(path: Path, known: str | None) -> None:
    if known is not None and (digest := sha256_of(path)) != known:
        raise InputError(
            f"{path}: wrong checksum (sha256 {digest}, expected {known}); delete it and fetch it again, or, "
            f"if the publisher has changed it, delete its line in {path.parent / RECORD}"
        )


def _download(file: RemoteFile, target: Path, known: str | None) -> None:
    reasons: list[str] = []
    dead_hosts: set[str] = set()
    for url in file.urls:
        host = urllib.parse.urlsplit(url).netloc
        if host in dead_hosts:
            continue
        try:
            download_from(url, target)
            _verify(target, known)
            return
        except InputError as error:  # a mirror with another file, or a damaged record of a part
            target.unlink(missing_ok=True)
            reasons.append(f"{url}: {error}")
        except (urllib.error.HTTPError, WrongLength) as error:
            reasons.append(f"{url}: {error}")
        except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as error:
            dead_hosts.add(host)
            reasons.append(f"{url}: {getattr(error, 'reason', None) or error}")
    why = "; ".join(reasons) if reasons else "no public address of it is known"
    raise InputError(
        f"{file.name} is missing in {target.parent} and cannot be downloaded ({why}); place {file.name} in "
        "that folder by hand (it is checked and unpacked there), or the unpacked files, and run again"
    )


def _lock(root: Path) -> FileLock:
    lock = FileLock(root / ".downloads.lock")
    try:
        lock.acquire(timeout=0.5)
    except Timeout:
        print(
            f"{root}: another process is fetching this data set; waiting for it", file=sys.stderr, flush=True
        )
    else:
        lock.release()
    return lock
