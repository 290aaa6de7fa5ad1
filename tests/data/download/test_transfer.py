"""One file from a server on 127.0.0.1 that can cut it and change it."""

import json
import socket
import threading
from pathlib import Path

import pytest

from niphash.data.download.transfer import ATTEMPTS, WrongLength, download_from
from niphash.errors import InputError
from tests.data.replicas import FileServer, serve

CONTENT = bytes(range(256)) * 80


@pytest.fixture
def server(tmp_path: Path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.zip").write_bytes(CONTENT)
    with serve(folder) as server:
        yield server


def begin(target: Path, content: bytes, url: str, **state: object) -> None:
    """Leave what an interrupted download of ``url`` leaves."""
    target.with_name("a.zip.part").write_bytes(content)
    target.with_name("a.zip.part.json").write_text(json.dumps({"url": url, **state}))


def test_a_cut_download_is_resumed(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = 5000
    download_from(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert server.requests == [("/a.zip", None), ("/a.zip", "bytes=5000-")]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "served"]  # no part


def test_a_download_is_resumed_by_the_next_run(server: FileServer, tmp_path: Path) -> None:
    url, target = f"{server.url}/a.zip", tmp_path / "a.zip"
    begin(target, CONTENT[:7000], url, validator=server.etag, total=len(CONTENT))
    download_from(url, target)
    assert server.requests == [("/a.zip", "bytes=7000-")]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("change", ["etag", "no_ranges", "shorter"])
def test_a_part_of_another_file_is_not_continued(server: FileServer, tmp_path: Path, change: str) -> None:
    url, target = f"{server.url}/a.zip", tmp_path / "a.zip"
    had = len(CONTENT) + 9 if change == "shorter" else 7000
    begin(target, b"?" * had, url, validator=server.etag, total=len(CONTENT))
    if change == "etag":
        server.etag = '"2"'
    elif change == "no_ranges":
        server.ranges = False
    download_from(url, target)
    assert target.read_bytes() == CONTENT


def test_a_part_from_another_address_is_not_continued(server: FileServer, tmp_path: Path) -> None:
    begin(tmp_path / "a.zip", b"?" * 7000, "http://else/a.zip", total=9)
    download_from(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert server.requests == [("/a.zip", None)]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_that_always_cuts_is_given_up(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    served = []

    def cut_at_once() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            served.append(1)
            connection.close()

    thread = threading.Thread(target=cut_at_once, daemon=True)
    thread.start()
    with pytest.raises(WrongLength, match="was cut"):
        download_from(f"{address}/a.zip", tmp_path / "a.zip")
    listener.close()
    assert len(served) == ATTEMPTS


@pytest.mark.parametrize("name", ["a.tgz.part", "a.tgz.part.json"])
def test_nothing_is_downloaded_through_a_link_that_is_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.tgz").write_bytes(b"new")
    outside = tmp_path / "precious"
    outside.write_text("{}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).symlink_to(outside)
    with serve(tmp_path / "served") as server, pytest.raises(InputError, match="is a link"):
        download_from(f"{server.url}/a.tgz", tmp_path / "data" / "a.tgz")
    assert outside.read_text() == "{}"
