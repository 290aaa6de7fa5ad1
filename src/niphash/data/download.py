"""Downloads: mirrors in order, resumed after a cut, verified, unpacked safely, once for all processes."""

import hashlib
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from niphash.data.archives import is_archive, unpack
from niphash.errors import InputError
from niphash.progress import PLAIN_LINE_EVERY_S

RECORD = "downloads.json"
TIMEOUT_S = 8.0
ATTEMPTS = 3  # without a new byte, at one address
BLOCK_BYTES = 2**18
MAX_FILE_BYTES = 500 * 2**30


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        name: Its name on disk, also the name under which it may be placed by hand.
        urls: Its addresses, the mirrors tried in order (http or https); may be empty.
        sha256: Its official checksum where one is known; otherwise the first one seen is recorded.
        folder: Sub-folder of the data root for the file, or for what an archive holds.
    """

    name: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    folder: str = "."

    def __post_init__(self) -> None:
        object.__setattr__(self, "urls", tuple(self.urls))
        if not self.name or Path(self.name).name != self.name:
            raise InputError(f"{self.name!r}: the name of a file to fetch must be a plain file name")
        for url in self.urls:
            if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
                raise InputError(f"{url}: only http and https addresses are fetched")


def remote_files(entries: Iterable[Mapping[str, Any]] | None) -> tuple[RemoteFile, ...]:
    """Return the files that a configuration lists.

    An entry has the fields of :class:`RemoteFile`. With ``first`` and ``last`` it stands for a numbered row
    of files, ``{n}`` in its name and addresses being the number.
    """
    files: list[RemoteFile] = []
    for entry in entries or ():
        fields = dict(entry)
        first, last = fields.pop("first", None), fields.pop("last", None)
        if first is None:
            files.append(RemoteFile(**fields))
            continue
        for number in range(first, last + 1):
            name = fields["name"].replace("{n}", str(number))
            urls = tuple(url.replace("{n}", str(number)) for url in fields.get("urls", ()))
            files.append(RemoteFile(**{**fields, "name": name, "urls": urls}))
    return tuple(files)


def is_interrupted(root: Path) -> bool:
    """Return whether an earlier :func:`fetch` into ``root`` was stopped while it unpacked."""
    return "unpacking" in _read_json(root / RECORD)


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
            record = _read_json(root / RECORD)
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
    _write_json(root / RECORD, record)


def _place(files: list[RemoteFile], root: Path, record: dict[str, Any]) -> None:
    """Unpack ``files`` where they belong, record their checksums, delete downloaded archives."""
    for position, file in enumerate(files):
        record["unpacking"] = [later.name for later in files[position:]]
        _write_json(root / RECORD, record)
        archive = root / file.name
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
            _write_json(root / RECORD, record)
            raise
        if is_archive(archive) and downloaded:
            archive.unlink()
        record.setdefault("sha256", {})[file.name] = digest
    record.pop("unpacking", None)
    _write_json(root / RECORD, record)


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
            _download_from(url, target)
            _verify(target, known)
            return
        except InputError as error:  # a mirror with another file
            target.unlink()
            reasons.append(f"{url}: {error}")
        except (urllib.error.HTTPError, _WrongLength) as error:
            reasons.append(f"{url}: {error}")
        except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as error:
            dead_hosts.add(host)
            reasons.append(f"{url}: {getattr(error, 'reason', None) or error}")
    why = "; ".join(reasons) if reasons else "no public address of it is known"
    raise InputError(
        f"{file.name} is missing in {target.parent} and cannot be downloaded ({why}); place {file.name} in "
        "that folder by hand (it is checked and unpacked there), or the unpacked files, and run again"
    )


class _WrongLength(ValueError):
    """A server sent more or fewer bytes than it announced, again and again."""


def _download_from(url: str, target: Path) -> None:
    """Download to ``<target>.part``, going on where an earlier download from ``url`` was cut."""
    part = target.with_name(target.name + ".part")
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _transfer(url, part, target.name):
                part.replace(target)
                _state_path(part).unlink(missing_ok=True)
                return
            error: Exception = _WrongLength("the connection was cut")
        except (TimeoutError, ConnectionError, http.client.HTTPException) as cut:
            error = cut
        progressed = part.exists() and part.stat().st_size > before
        failures = 0 if progressed else failures + 1
        if failures >= ATTEMPTS:
            raise error
        time.sleep(0.2 * failures)


def _transfer(url: str, part: Path, name: str) -> bool:
    """Fetch what is missing of ``part``; return whether it is whole now."""
    state = _read_json(_state_path(part))
    have = part.stat().st_size if part.exists() and state.get("url") == url else 0
    request = urllib.request.Request(url, headers={"User-Agent": "niphash", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if state.get("validator"):
            request.add_header("If-Range", state["validator"])
    try:
        response = _opener().open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # the range lies behind the end: the file has changed
            part.unlink()
            return _transfer(url, part, name)
        raise
    with response:
        start = _range_start(response) if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        if start != have or (start and total != state.get("total")):
            start = 0 if response.status == 200 else -1
        if start < 0:  # a range that does not continue ours
            part.unlink(missing_ok=True)
            return False
        if (total or 0) > MAX_FILE_BYTES:
            raise ValueError(f"announces {total} bytes, more than the limit of {MAX_FILE_BYTES}")
        if start == 0:
            validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
            if validator and validator.startswith("W/"):
                validator = None
            _write_json(_state_path(part), {"url": url, "validator": validator, "total": total})
        with part.open("ab" if start else "wb") as out:
            for block in _shown(_blocks(response), name, start, total):
                out.write(block)
    return total is None or part.stat().st_size == total


def _blocks(response: Any) -> Iterator[bytes]:
    received = 0
    while block := response.read1(BLOCK_BYTES):
        received += len(block)
        if received > MAX_FILE_BYTES:
            raise ValueError(f"sent more than the limit of {MAX_FILE_BYTES} bytes")
        yield block


def _range_start(response: Any) -> int:
    unit, _, span = (response.headers.get("Content-Range") or "").partition(" ")
    first = span.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else -1


class _HttpRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.HTTPError(req.full_url, code, f"redirects to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener that speaks nothing but http and https (no file:, no ftp:, no data:)."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _HttpRedirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _shown(blocks: Iterable[bytes], name: str, start: int, total: int | None) -> Iterator[bytes]:
    """Yield ``blocks`` and show size and rate: a bar on a terminal, a plain line now and then elsewhere."""
    if sys.stderr.isatty():
        yield from _rich_bar(blocks, name, start, total)
        return
    begin = last = time.monotonic()
    done = start
    for block in blocks:
        yield block
        done += len(block)
        now = time.monotonic()
        if now - last >= PLAIN_LINE_EVERY_S:
            last = now
            of_total = f" of {total / 1e6:.1f}" if total is not None else ""
            rate = (done - start) / 1e6 / (now - begin)
            print(f"{name}: {done / 1e6:.1f}{of_total} MB, {rate:.1f} MB/s", file=sys.stderr, flush=True)


def _rich_bar(blocks: Iterable[bytes], name: str, start: int, total: int | None) -> Iterator[bytes]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, completed=start)
        for block in blocks:
            yield block
            bar.advance(task, len(block))


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


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_record(root: Path) -> dict[str, Any]:
    return _read_json(root / RECORD)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); delete it and run again") from error
    return value if isinstance(value, dict) else {}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True), encoding="utf-8")
    temporary.replace(path)
