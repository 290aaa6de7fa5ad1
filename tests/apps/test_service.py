"""``niphash serve``: a real server over a real collection, asked by a real client."""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

from niphash.apps.service.limits import Limits
from niphash.collection.collection import Collection
from niphash.collection.duplicates import duplicate_groups
from niphash.data.images import Box
from tests.apps.served import collect, served
from tests.photos import real_photos


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    """Twelve photos."""
    return collect(tmp_path)


@pytest.fixture
def client(collection: Collection) -> Iterator[httpx.Client]:
    """Of a service of ``collection``."""
    with served(collection) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def photo_bytes(seed: int = 0, side: int = 180) -> bytes:
    """A photo that no collection holds yet, as PNG."""
    buffer = io.BytesIO()
    left, top = np.random.default_rng(seed).integers(0, 40, 2)
    real_photos()[seed % 6].crop((left, top, left + side, top + side)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_photo_is_searched_as_by_the_collection(
    client: httpx.Client, collection: Collection, tmp_path: Path
):
    path = tmp_path / "photos" / "object01" / "view1.jpg"
    expected = collection.search(path, k=5)
    content = path.read_bytes()
    for answer in (
        client.post("/search?k=5", content=content),
        client.post("/search?k=5", files={"photo": ("x.jpg", content)}),
        client.post("/search?k=5&id=4"),
    ):
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert [(m["id"], m["distance"], m["itself"]) for m in found["matches"]] == [
            (m.id, m.distance, m.itself) for m in expected
        ]
        assert (found["width"], found["height"], found["bits"], found["problem"]) == (160, 160, 8, None)
        assert found["matches"][0]["name"].startswith("object0")
    near = client.post("/search?within=2", content=content).json()["matches"]
    assert [m["id"] for m in near] == [m.id for m in collection.search(path, within=2)]
    weighted = client.post("/search?k=3&distance=asymmetric&box=10,10,100,120", content=content).json()[
        "matches"
    ]
    again = collection.search(path, k=3, distance="asymmetric", box=Box(10, 10, 100, 120))
    assert [m["id"] for m in weighted] == [m.id for m in again]


def test_a_search_is_re_ranked(
    client: httpx.Client, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NIPHASH_DATA", str(tmp_path / "data"))
    path = tmp_path / "photos" / "object01" / "view1.jpg"
    expected = collection.search(path, k=4, box=Box(10, 10, 120, 120), rerank="geometric")
    words = "k=4&box=10,10,120,120&rerank=geometric"
    number = expected[0].id
    for answer in (
        client.post(f"/search?{words}", content=path.read_bytes()),
        client.post(f"/search?{words}&id={number}"),
    ):
        matches = answer.raise_for_status().json()["matches"]
        assert [match["id"] for match in matches] == [match.id for match in expected]
        assert [match["score"] for match in matches] == [match.score for match in expected]
        region = matches[0]["region"]
        assert region == {"corners": expected[0].region, "width": 160, "height": 160}
        assert np.abs(np.array(region["corners"]) - [[10, 10], [120, 10], [120, 120], [10, 120]]).max() < 2
    plain = client.post(f"/search?k=4&id={number}").json()["matches"]
    assert {match["score"] for match in plain} == {match["region"] for match in plain} == {None}
    assert client.post(f"/search?id={number}&rerank=best").status_code == 422
    scores = [m["score"] for m in client.post(f"/search?id={number}&rerank=float").json()["matches"]]
    assert scores == sorted(scores, reverse=True)


def test_a_search_never_returns_more_than_the_limit(collection: Collection):
    with served(collection, limits=Limits(matches=3)) as address:
        assert len(httpx.post(f"{address}/search?id=1&within=8").json()["matches"]) == 3
        assert httpx.post(f"{address}/search?id=1&k=4").status_code == 422


def test_photos_are_added_found_and_removed(client: httpx.Client, collection: Collection):
    content = photo_bytes(3)
    added = client.post("/photos", files={"photo": ("../../Holiday.PNG", content)})
    assert added.status_code == 201
    number = added.json()["id"]
    kept = collection.path(number)
    assert kept.parent == collection.folder / "uploads"
    assert kept.suffix == ".png"
    assert kept.read_bytes() == content
    again = client.post("/photos", content=content)
    assert (again.status_code, again.json()) == (200, {"id": number, "new": False})
    found = client.post("/search?k=13", content=content).json()["matches"]
    assert [m["id"] for m in found if m["itself"]] == [number]
    told = client.get(f"/photos/{number}").json()
    assert (told["width"], told["height"]) == (180, 180)
    assert client.get("/health").json() == {"status": "ok", "photos": 13, "bits": 8}
    assert client.delete(f"/photos/{number}").status_code == 204
    assert not kept.exists()
    assert client.delete(f"/photos/{number}").status_code == 404
    assert client.post(f"/search?id={number}").status_code == 404
    assert collection.check() == []


def test_removing_an_indexed_photo_leaves_its_file(client: httpx.Client, collection: Collection):
    path = collection.path(5)
    assert client.delete("/photos/5").status_code == 204
    assert path.exists()
    assert len(collection) == 11


def test_photos_are_listed_and_shown(client: httpx.Client, collection: Collection):
    listed = client.get("/photos?limit=5").json()
    assert [photo["id"] for photo in listed] == [0, 1, 2, 3, 4]
    assert [p["id"] for p in client.get("/photos?after=9").json()] == [10, 11]
    shown = client.get(listed[2]["thumbnail"])
    picture = Image.open(io.BytesIO(shown.content))
    assert (picture.format, picture.size) == ("JPEG", (160, 160))
    with Image.open(collection.path(2)) as photo:
        assert np.abs(np.asarray(picture, int) - np.asarray(photo.convert("RGB"), int)).mean() < 6
    tag = {"If-None-Match": shown.headers["etag"]}
    assert client.get(listed[2]["thumbnail"], headers=tag).status_code == 304
    assert client.get("/photos/2/thumbnail?side=999").status_code == 422
    collection.path(3).unlink()
    assert client.get("/photos/3/thumbnail").status_code == 422
    assert client.get("/photos/3").json()["width"] == 0


def test_nothing_outside_the_roots_is_served(client: httpx.Client, collection: Collection, tmp_path: Path):
    """A photo replaced by a link to another one, and every spelling of a way out."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(photo_bytes(4))
    collection.path(0).unlink()
    collection.path(0).symlink_to(secret)
    answer = client.get("/photos/0/thumbnail")
    assert answer.status_code == 422
    assert "outside" in answer.json()["detail"]
    assert client.post("/search?id=0&box=0,0,50,50").status_code == 422
    address = urlsplit(str(client.base_url))
    for path in (
        "/photos/../../../etc/passwd",
        "/photos/..%2f..%2fetc%2fpasswd/thumbnail",
        "/../page.js",
        "//etc/passwd",
        "/photos/-1",
        "/photos/1e3",
        "/photos/99999999999999999999",
        "/page/../app.py",
        "/index.html",
    ):
        connection = HTTPConnection(address.hostname, address.port, timeout=30)
        connection.request("GET", path)
        assert connection.getresponse().status in (404, 405, 422), path
        connection.close()


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"this is no photo", 422, "not an image"),
        (b"", 422, "give a photo"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", 422, ""),
        (photo_bytes()[:3000], 422, "truncated"),
        (b"P6 20000 20000 255\n", 422, ""),
        (b"P6 9000 9000 255\n" + b"\0" * 100, 413, "pixels"),
        (b"x" * 2_000_001, 413, "at most 2000000"),
    ],
    ids=["text", "nothing", "head", "truncated", "bomb", "large", "long"],
)
def test_bad_uploads_get_one_clear_answer(collection: Collection, content: bytes, status: int, said: str):
    before = sorted(path for path in collection.folder.rglob("*"))
    with served(collection, limits=Limits(upload_bytes=2_000_000)) as address:
        for path in ("/search", "/photos"):
            answers = [httpx.post(address + path, content=content, timeout=60)]
            if content:
                answers.append(httpx.post(address + path, files={"photo": ("p.jpg", content)}, timeout=60))
            for answer in answers:
                assert answer.status_code == status, answer.text
                assert said in answer.json()["detail"]
    assert len(collection) == 12
    assert sorted(path for path in collection.folder.rglob("*")) == before


def test_forms_that_are_no_forms(client: httpx.Client):
    kind = {"content-type": "multipart/form-data; boundary=x"}
    for content in (b"", b"--x\r\nrubbish", b"--x--\r\n", b"\0" * 5000):
        assert client.post("/search", content=content, headers=kind).status_code == 422
    assert (
        client.post("/search", content=b"x", headers={"content-type": "multipart/form-data"}).status_code
        == 422
    )
    assert client.post("/search", files={"other": ("p.jpg", photo_bytes())}).status_code == 422
    assert client.post("/search", data={"photo": "text"}, files={"x": b""}).status_code == 422


@pytest.mark.parametrize(
    "query",
    [
        "k=0",
        "k=x",
        "k=100000",
        "within=-1",
        "within=nan",
        "distance=cosine",
        "box=1,2,3",
        "box=5,5,1,1",
        "box=a,b,c,d",
        "box=nan,0,5,5",
        "box=0,0,1e9,1e9",
        "box=900,900,990,990",
        "id=-1",
        "id=99999999999999999999",
    ],
)
def test_options_that_mean_nothing(client: httpx.Client, query: str):
    answer = client.post(f"/search?{query}", content=photo_bytes())
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


def test_a_body_that_does_not_come_is_given_up(collection: Collection):
    with served(collection, limits=Limits(upload_seconds=0.3)) as address:
        port = urlsplit(address).port
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            slow.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
            assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_too_many_at_once_are_told_to_come_again(collection: Collection):
    """Those inside are answered; the others hear 503 at once, and the service goes on."""
    content = photo_bytes(2, 200)
    with served(collection, limits=Limits(bodies=2, waiting=3, workers=1)) as address:

        def ask(_: int) -> int:
            return httpx.post(f"{address}/search", content=content, timeout=120).status_code

        with ThreadPoolExecutor(24) as pool:
            statuses = list(pool.map(ask, range(72)))
        assert set(statuses) == {200, 503}
        assert statuses.count(200) >= 5
        assert ask(0) == 200
        text = httpx.get(f"{address}/metrics").text
    assert f'route="/search",status="503"}} {statuses.count(503)}' in text
    assert "niphash_requests_inside 0" in text
    assert "niphash_requests_waiting 0" in text


def test_many_clients_get_what_one_gets(client: httpx.Client, collection: Collection):
    """Searching, adding and removing at the same time."""
    paths = [collection.path(number) for number in range(12)]
    expected = [collection.search(path, k=1)[0].distance for path in paths]

    def change(seed: int) -> None:
        number = client.post("/photos", content=photo_bytes(seed, 170 + seed)).json()["id"]
        assert client.delete(f"/photos/{number}").status_code == 204

    with ThreadPoolExecutor(8) as pool:
        changes = [pool.submit(change, seed) for seed in range(6)]
        answers = list(
            pool.map(lambda path: client.post("/search?k=30", content=path.read_bytes()), paths * 3)
        )
        for done in changes:
            done.result()
    for answer, distance, path in zip(answers, expected * 3, paths * 3, strict=True):
        assert answer.status_code == 200
        matches = answer.json()["matches"]
        assert matches[0]["distance"] == distance
        assert str(path).endswith(next(m["name"] for m in matches if m["itself"]))
    assert len(collection) == 12
    assert collection.check() == []


def test_another_writer_is_waited_for_by_the_client(client: httpx.Client, collection: Collection):
    program = (
        "import sys, time\n"
        "from filelock import FileLock\n"
        "with FileLock(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(collection.folder / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        answer = client.post("/photos", content=photo_bytes(1))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert client.post("/search?id=1").status_code == 200
        other.kill()
    assert client.post("/photos", content=photo_bytes(1)).status_code == 201


def test_the_service_sees_what_others_index(client: httpx.Client, collection: Collection, tmp_path: Path):
    assert len(client.post("/search?id=1&within=8").json()["matches"]) == 12
    shutil.copy(collection.path(1), tmp_path / "photos" / "twin.jpg")
    Collection(collection.folder).update([tmp_path / "photos"])
    assert len(client.post("/search?id=1&within=8").json()["matches"]) == 13


def test_duplicates(client: httpx.Client, collection: Collection):
    found = client.get("/duplicates?within=1").json()
    expected = [[member.id for member in group.members] for group in duplicate_groups(collection, 1)]
    assert [[photo["id"] for photo in group] for group in found] == expected
    assert client.get("/duplicates?within=-1").status_code == 422


def test_a_token_is_asked_for(collection: Collection):
    with served(collection, token="open sesame 123") as address, httpx.Client(base_url=address) as client:
        for path in ("/photos", "/metrics", "/docs", "/openapi.json", "/photos/1/thumbnail", "/duplicates"):
            assert client.get(path).status_code == 401, path
        assert client.post("/search?id=1").status_code == 401
        assert client.delete("/photos/1").status_code == 401
        assert client.get("/health").status_code == client.get("/").status_code == 200
        for wrong in ("open sesame 12", "", "open sesame 1234", "öpen", "x" * 5000):
            header = {"Authorization": f"Bearer {wrong or 'x'}".encode()}
            assert client.get("/photos", headers=header).status_code == 401
            assert client.post("/session", json={"token": wrong}).status_code in (401, 422)
        assert client.get("/photos", headers={"Authorization": "Bearer open sesame 123"}).status_code == 200
        assert client.post("/session", json={"token": "open sesame 123"}).status_code == 204
        assert client.get("/photos").status_code == 200  # by the cookie
        assert len(collection) == 12


def test_other_web_pages_are_refused(client: httpx.Client, collection: Collection):
    """A page of another site sends its origin; one that names this machine anew sends another host."""
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("/photos", content=photo_bytes(), headers=headers).status_code == 403
        assert client.delete("/photos/1", headers=headers).status_code == 403
    own = {"Origin": str(client.base_url).rstrip("/")}
    assert client.post("/search?id=1", headers=own).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "", "[::1"):
        answer = client.get("/photos", headers={"Host": host})
        assert answer.status_code in (400, 421), host
    assert len(collection) == 12
    headers = client.get("/").headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_the_reference_names_every_operation(client: httpx.Client):
    schema = client.get("/openapi.json").json()
    page = client.get("/docs").text
    for path, methods in schema["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in page
    assert {"/search", "/photos", "/photos/{id}", "/health", "/metrics"} <= schema["paths"].keys()
    assert "://" not in page.replace("http://127", "")  # loads nothing from elsewhere


def start(folder: Path, *words: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "niphash.apps.cli", "serve", str(folder), "--port", "0", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert " at http://127.0.0.1:" in line, process.stderr.read()
    return process, line.split(" at ")[1].split()[0]


def test_the_command_serves_until_it_is_stopped(collection: Collection):
    process, address = start(collection.folder, "--token", "12345678")
    try:
        assert httpx.get(f"{address}health").json()["photos"] == 12
        header = {"Authorization": "Bearer 12345678"}
        assert httpx.post(f"{address}search?id=2", headers=header).json()["matches"]
        port = str(urlsplit(address).port)
        command = [sys.executable, "-m", "niphash.apps.cli", "serve", str(collection.folder), "--port", port]
        second = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert second.returncode == 2
        assert second.stderr.startswith(f"error: --host 127.0.0.1 --port {port}: cannot listen there")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, ""), out + err
    finally:
        process.kill()


def test_a_kill_while_adding_loses_nothing_that_was_answered(collection: Collection):
    """The process is killed while clients add; what was answered with 201 is there, and whole."""
    process, address = start(collection.folder)
    rng = np.random.default_rng(7)
    answered: dict[int, bytes] = {}
    stop = threading.Event()

    def add(first: int) -> None:
        for seed in range(first, first + 1000, 4):
            content = photo_bytes(seed, 100 + seed % 97)
            try:
                answer = httpx.post(f"{address}photos", content=content, timeout=60)
            except httpx.HTTPError:
                return
            if answer.status_code in (200, 201):
                answered[answer.json()["id"]] = content
            if stop.is_set():
                return

    threads = [threading.Thread(target=add, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    wanted = int(rng.integers(4, 12))
    while len(answered) < wanted:
        threads[0].join(0.01)
    os.kill(process.pid, signal.SIGKILL)
    stop.set()
    process.communicate()
    for thread in threads:
        thread.join()
    again = Collection(collection.folder)
    assert all(again.path(number).read_bytes() == content for number, content in answered.items())
    ids = [entry.id for entry in again.manifest.all() if entry.coded]
    paths = [again.path(number) for number in ids]
    assert again.codes.get(np.array(ids)).tolist() == again.model.hash(paths).tolist()
    again.add(again.path(0))
    assert again.check() == []
