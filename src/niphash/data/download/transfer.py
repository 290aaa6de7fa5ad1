"""One file from one http address: resumed after a cut, bounded in size, shown while it comes."""

import http.client
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from niphash.data.writing import refuse_links, write_whole
from niphash.errors import InputError
from niphash.progress import PLAIN_LINE_EVERY_S

TIMEOUT_S = 8.0


ATTEMPTS = 3  # without a new byte, at one address


BLOCK_BYTES = 2**18


MAX_FILE_BYTES = 500 * 2**30


class WrongLength(ValueError):
    """A server sent more or fewer bytes than it announced, again and again."""


def download_from(url: str, target: Path) -> None:
    """Download to ``<target>.part``, going on where an earlier download from ``url`` was cut, then rename.

    Raises:
        WrongLength: the connection was cut :data:`ATTEMPTS` times without a new byte between them.
        OSError: the address cannot be reached or answers with an error (``urllib.error.URLError``).
        ValueError: the file is larger than :data:`MAX_FILE_BYTES`.
        http.client.HTTPException: the server does not speak http.
    """
    part = target.with_name(target.name + ".part")
    refuse_links(target.parent, part, _state_path(part))
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _transfer(url, part, target.name):
                part.replace(target)
                _state_path(part).unlink(missing_ok=True)
                return
            error: Exception = WrongLength("the connection was cut")
        except (TimeoutError, ConnectionError, http.client.HTTPException) as cut:
            error = cut
        progressed = part.exists() and part.stat().st_size > before
        failures = 0 if progressed else failures + 1
        if failures >= ATTEMPTS:
            raise error
        time.sleep(0.2 * failures)


def _transfer(url: str, part: Path, name: str) -> bool:
    """Fetch what is missing of ``part``; return whether it is whole now."""
    state = read_record(_state_path(part))
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
            write_record(_state_path(part), {"url": url, "validator": validator, "total": total})
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


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


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
    write_whole(path, json.dumps(value, indent=1, sort_keys=True))
