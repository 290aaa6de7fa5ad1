"""``niphash index``, ``info``, ``check``, ``search``, ``duplicates`` as a user types them."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from niphash import open as open_collection
from niphash.apps.cli import main
from niphash.collection.codes import Workers
from niphash.collection.collection import Collection
from tests.clusters import lose_worker
from tests.photos import write_objects

MODEL = Path(__file__).resolve().parents[1] / "models" / "fisher_itq"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with 12 photos in ``photos``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NIPHASH_DATA", str(tmp_path / "data"))
    write_objects(tmp_path / "photos", objects=4, views=3)
    return tmp_path


class Done:
    """What a command printed."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def niphash(capsys: pytest.CaptureFixture[str]):
    """Run a command in this process: ``niphash("search", ...)``."""

    def run(*words: str, status: int = 0) -> Done:
        reached = 0
        try:
            main(words)
        except SystemExit as exit:
            reached = exit.code
        done = Done(reached, *capsys.readouterr())
        assert reached == status, done.out + done.err
        if status:
            assert len(done.err.strip().splitlines()[-1:]) == 1
            assert "Traceback" not in done.err
        return done

    return run


@pytest.fixture
def index(niphash) -> str:
    """An index of ``photos``."""
    niphash("index", "photos", "--model", str(MODEL), "--out", "my.index")
    return "my.index"


def test_indexing_says_what_it_did(niphash, index: str, place: Path):
    shutil.copy("photos/object00/view0.jpg", "photos/new.jpg")
    Image.new("RGB", (200, 200), "white").save("photos/white.png")
    Path("photos/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    Path("photos/notes.txt").write_text("no photo")
    Path("photos/object01/view0.jpg").unlink()
    shutil.copy("photos/object02/view0.jpg", "photos/object02/view1.jpg")
    done = niphash("index", "photos", "--out", index)
    assert done.lines[0] == "14 photos in my.index, 8 bits each: 2 new, 1 changed, 10 as they were"
    assert "photos: 13 photos; left out: " in done.lines[1]
    assert "1 .txt" in done.lines[1]
    assert done.lines[2] == "1 of them have no local descriptor, so they match nothing"
    assert done.lines[3] == "1 are gone from photos; --prune removes them from the index"
    assert done.err.splitlines()[-1].startswith("skipped: ")
    assert "broken.jpg" in done.err
    pruned = niphash("index", "photos", "--out", index, "--prune")
    assert pruned.lines[0] == "13 photos in my.index, 8 bits each: 1 removed, 13 as they were"
    assert niphash("check", index).out.startswith("my.index: whole, 13 photos")


def test_several_folders_and_a_move(niphash, index: str):
    write_objects(Path("others"), objects=1, views=2)
    assert niphash("index", "others", "photos", "--out", index).lines[0].endswith(": 2 new, 12 as they were")
    Path("others").rename("elsewhere")
    done = niphash("index", "--move", "others", "elsewhere", "--out", index)
    assert done.out == "2 photos of others are in elsewhere now\n"
    info = niphash("info", index).out
    assert "photos    14" in info
    assert "codes     14 of 8 bits" in info
    assert f"root      {Path('elsewhere').resolve()} (2 photos)" in info
    assert f"root      {Path('photos').resolve()} (12 photos)" in info
    assert "ITQ" in info


def test_results_as_table_json_and_csv_are_the_same(niphash, index: str):
    words = ("search", index, "photos/object01/view1.jpg", "-k", "5")
    table = [line.split() for line in niphash(*words).lines[1:]]
    (answer,) = json.loads(niphash(*words, "--json").out)
    rows = list(csv.DictReader(io.StringIO(niphash(*words, "--csv").out)))
    assert len(table) == len(answer["matches"]) == len(rows) == 5
    for line, match, row in zip(table, answer["matches"], rows, strict=True):
        assert [int(line[0]), int(line[1]), line[-1]] == [match["distance"], match["id"], match["path"]]
        assert (line[2] == "=") == match["itself"] == (row["itself"] == "1")
        assert [row["distance"], row["id"], row["path"]] == [line[0], line[1], line[-1]]
        assert row["score"] == row["problem"] == ""
    assert [match["path"] for match in answer["matches"] if match["itself"]] == [
        str(Path("photos/object01/view1.jpg").resolve())
    ]


def test_a_re_ranking_has_its_score_in_every_form(niphash, index: str):
    words = ("search", index, "photos/object01/view1.jpg", "-k", "3", "--rerank", "float")
    table = [line.split() for line in niphash(*words).lines[1:]]
    (answer,) = json.loads(niphash(*words, "--json").out)
    rows = list(csv.DictReader(io.StringIO(niphash(*words, "--csv").out)))
    scores = [match["score"] for match in answer["matches"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(1, abs=1e-5)
    assert [float(row["score"]) for row in rows] == scores
    assert [float(line[-1]) for line in table] == pytest.approx(scores, abs=1e-3)


def test_a_folder_several_photos_and_standard_input(niphash, index: str, monkeypatch):
    answers = json.loads(niphash("search", index, "photos", "-k", "2", "--json").out)
    assert [Path(answer["query"]).name for answer in answers] == [f"view{i % 3}.jpg" for i in range(12)]
    assert all(answer["matches"][0]["distance"] == 0 for answer in answers)
    table = niphash("search", index, "photos/object00/view0.jpg", "photos/object03/view0.jpg", "-k", "1")
    assert [line for line in table.lines if line.startswith("photos")] == [
        "photos/object00/view0.jpg",
        "photos/object03/view0.jpg",
    ]

    def given(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    given(Path("photos/object02/view2.jpg").read_bytes())
    (answer,) = json.loads(niphash("search", index, "-", "--json").out)
    assert [Path(m["path"]).name for m in answer["matches"] if m["itself"]] == ["view2.jpg"]
    given(b"photos/object00/view0.jpg\nphotos/object01/view1.jpg\n\nphotos/missing.jpg\n")
    answers = json.loads(niphash("search", index, "-", "--json").out)
    assert [answer["problem"] for answer in answers] == [None, None, "does not exist"]
    for content, said in ((b"", "empty"), (b"no photo, no name", "not an image")):
        given(content)
        assert said in niphash("search", index, "-", status=2).err


def test_reach_box_and_distance(niphash, index: str):
    query = "photos/object01/view0.jpg"
    (answer,) = json.loads(niphash("search", index, query, "--within", "8", "--json").out)
    assert len(answer["matches"]) == 12
    (near,) = json.loads(niphash("search", index, query, "--within", "2", "--json").out)
    assert near["matches"] == [match for match in answer["matches"] if match["distance"] <= 2]
    weighted = niphash("search", index, query, "--distance", "asymmetric", "-k", "1").lines[1]
    assert weighted.split()[0] == "0.00"
    whole = niphash("search", index, query, "--box", "0,0,160,160", "--json").out
    assert whole == niphash("search", index, query, "--json").out
    assert "outside" in niphash("search", index, query, "--box", "500,500,600,600", status=2).err
    for wrong in (["--box", "1,2,3"], ["--box", "9,9,2,2"], ["--box", "a,b,c,d"]):
        assert "--box" in niphash("search", index, query, *wrong, status=2).err
    for wrong in (["-k", "0"], ["--within", "-1"]):
        assert niphash("search", index, query, *wrong, status=2).err.startswith("error: ")


def test_the_sheet_shows_the_photos_that_were_found(niphash, index: str):
    niphash("search", index, "photos/object00", "-k", "4", "--sheet", "sheet.png", "--box", "20,20,100,140")
    sheet = Image.open("sheet.png").convert("RGB")
    assert sheet.size == (8 + 5 * 188, 8 + 3 * 208)
    with Image.open("photos/object00/view0.jpg") as photo:
        shown = np.asarray(sheet.crop((18, 18, 168, 168)), int)  # the query is 160 x 160, in a cell of 180
        real = np.asarray(photo.convert("RGB").crop((0, 0, 150, 150)), int)
    assert np.median(np.abs(shown - real)) < 12
    for wrong in ("nowhere/sheet.jpg", "photos", "sheet.xyz"):
        assert wrong in niphash("search", index, "photos/object00", "--sheet", wrong, status=2).err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.jpg", None, "does not exist"),
        ("truncated.jpg", 500, "truncated"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC|is damaged"),
        ("text.jpg", b"this is no photo", "not an image"),
        ("empty.jpg", b"", "empty"),
    ],
)
def test_a_query_that_cannot_be_read(niphash, index: str, name: str, content: bytes | int | None, said: str):
    whole = Path("photos/object00/view0.jpg").read_bytes()
    if content is not None:
        Path(name).write_bytes(whole[:content] if isinstance(content, int) else content)
    err = niphash("search", index, name, status=2).err
    assert re.match(f"error: {re.escape(name)}: .*({said})", err)
    assert len(err.splitlines()) == 1
    both = niphash("search", index, name, "photos/object00/view0.jpg", "-k", "1")
    assert both.err.startswith(f"skipped: {name}: ")
    assert "object00/view0.jpg" in both.out


@pytest.mark.parametrize("size", [(100, 100), (1, 1), (20000, 1)])
def test_a_photo_without_local_descriptors_matches_nothing(niphash, index: str, size: tuple[int, int]):
    Image.new("RGB", size, "white").save("white.png")
    done = niphash("search", index, "white.png")
    assert done.out == ""
    assert done.err == "note: white.png: has no local descriptor, so it matches nothing\n"


def test_re_ranking_shows_scores_and_regions(niphash, index: str):
    photo = "photos/object01/view0.jpg"
    table = niphash("search", index, photo, "-k", "3", "--rerank", "geometric").lines
    assert table[0].endswith("score")
    assert [re.findall(r"object\d+", line)[0] for line in table[1:]] == ["object01"] * 3
    (answer,) = json.loads(niphash("search", index, photo, "--rerank", "geometric", "--json").out)
    assert (
        np.abs(np.array(answer["matches"][0]["region"]) - [[0, 0], [160, 0], [160, 160], [0, 160]]).max() < 2
    )
    assert (Path(index) / "features").is_dir()
    assert "whole" in niphash("check", index).out


def test_codes_on_the_workers_of_a_cluster(niphash, index: str, cluster):
    """Shards on workers, with a replica of each, answer as one index does, also when a worker is lost."""
    address = cluster.scheduler_address
    niphash("index", "photos", "--model", str(MODEL), "--out", "spread.index", "--scheduler", address)
    assert len(list(Path("spread.index/codes").glob("shard-*/index.json"))) == 3
    ask = ("photos/object00/view1.jpg", "--json")
    expected = json.loads(niphash("search", index, *ask).out)
    assert json.loads(niphash("search", "spread.index", *ask).out) == expected  # in this process
    spread = niphash("search", "spread.index", *ask, "--scheduler", address, "--replicas", "2")
    assert json.loads(spread.out) == expected
    with Collection("spread.index", Workers(address, 2)) as collection:
        before = collection.search(ask[0], k=12)
        lose_worker(cluster, 0)
        assert collection.search(ask[0], k=12) == before
        assert collection.check() == []
        assert collection.add("photos").unchanged == 12  # the shards of the lost worker move on
    refused = niphash("search", index, *ask, "--scheduler", address, status=2)
    assert "leave --scheduler away" in refused.err


def test_duplicates_as_table_json_and_page(niphash, index: str):
    shutil.copy("photos/object03/view0.jpg", "photos/object00/<b>same.jpg")
    niphash("index", "photos", "--out", index)
    table = niphash("duplicates", index, "--within", "0", "--html", "page.html")
    groups = json.loads(niphash("duplicates", index, "--within", "0", "--json").out)
    with Collection(index) as collection:
        codes = {e.id: collection.codes.get(np.array([e.id])).tobytes() for e in collection.manifest.all()}
    expected = {frozenset(n for n, code in codes.items() if code == same) for same in codes.values()}
    assert {frozenset(m["id"] for m in group) for group in groups} == {g for g in expected if len(g) > 1}
    assert sum(line.startswith("group ") for line in table.lines) == len(groups)
    page = Path("page.html").read_text()
    assert page.count("<section>") == len(groups)
    assert page.count("data:image/jpeg;base64,") == sum(map(len, groups))
    assert "&lt;b&gt;same.jpg" in page
    assert "<b>same" not in page
    assert page.count("the same file as the first") == sum(m["same_file"] for g in groups for m in g[1:]) > 0
    assert "(=: the same file as the first)" in table.lines[-1]
    assert niphash("duplicates", index, "--within", "-1", status=2).err.startswith("error: within=-1")
    assert "nowhere" in niphash("duplicates", index, "--html", "nowhere/page.html", status=2).err


def test_refusals_name_what_is_to_be_done(niphash, index: str, place: Path):
    other = str(MODEL.parent / "vlad_pca_niphash")
    assert "--model <folder>" in niphash("index", "photos", "--out", "new.index", status=2).err
    assert not Path("new.index").exists()
    assert "another model" in niphash("index", "photos", "--out", index, "--model", other, status=2).err
    assert "name the folders" in niphash("index", "--out", index, status=2).err
    assert "no such folder" in niphash("index", "nowhere", "--out", index, status=2).err
    assert (
        "holds other files"
        in niphash("index", "photos", "--model", str(MODEL), "--out", "photos", status=2).err
    )
    Path("old").mkdir()
    Path("old/photos.json").write_text("{}")
    for command in (["search", "old", "x.jpg"], ["info", "old"], ["index", "photos", "--out", "old"]):
        assert "earlier niphash" in niphash(*command, status=2).err
    assert "holds no index" in niphash("search", "photos", "x.jpg", status=2).err
    for target in ("codes", "model", "photos.sqlite"):
        shutil.copytree(index, "linked", symlinks=True)
        part = Path("linked") / target
        part.rename(place / f"real-{target}")
        part.symlink_to(place / f"real-{target}")
        assert "is a link" in niphash("index", "photos", "--out", "linked", status=2).err
        shutil.rmtree("linked")


def test_only_unreadable_photos(niphash):
    Path("bad").mkdir()
    Path("bad/a.jpg").write_bytes(b"\xff\xd8\xff")
    err = niphash("index", "bad", "--model", str(MODEL), "--out", "bad.index", status=2).err
    assert "none of the 1 photos can be read" in err


def test_every_damaged_byte_of_the_codes_is_found_by_check(niphash, index: str):
    assert niphash("check", index).out == "my.index: whole, 12 photos\n"
    files = [p for p in Path(index).rglob("*") if p.is_file() and p.stat().st_size and "lock" not in p.name]
    assert len(files) >= 7
    for path in files:
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[len(whole) // 2] ^= 0x20
        path.write_bytes(damaged)
        if path.name == "photos.sqlite":  # its middle may be unused: see the tests of the manifest
            damaged[whole.index(b"object02/view1.jpg")] ^= 1
            path.write_bytes(damaged)
        done = niphash("check", index, status=2)
        assert path.name.split(".")[0] in done.err or "codes" in done.err, (path, done.err)
        path.write_bytes(whole)
    assert niphash("check", index).out == "my.index: whole, 12 photos\n"


def test_names_that_no_terminal_prints_are_read_back(niphash, index: str):
    name = os.fsdecode(b"photos/\xff\x1b[31m\n.jpg")
    shutil.copy("photos/object00/view0.jpg", name)
    niphash("index", "photos", "--out", index)
    done = niphash("search", index, name, "--within", "0")
    assert "\x1b" not in done.out
    (answer,) = json.loads(niphash("search", index, name, "--within", "0", "--json").out)
    assert str(Path(name).absolute()) in {match["path"] for match in answer["matches"]}
    program = [sys.executable, "-m", "niphash.apps.cli", "search", index, name, "--within", "0"]
    for extra, env in (
        ("--csv", {}),
        ("--json", {}),
        ("--json", {"PYTHONIOENCODING": "ascii"}),
        ("", {"PYTHONIOENCODING": "ascii"}),
    ):
        words = [*program, *([extra] if extra else [])]
        done = subprocess.run(words, env={**os.environ, **env}, capture_output=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert (b"\xff\x1b[31m" in done.stdout) == (extra == "--csv")


def test_search_loads_neither_lightning_nor_hydra(index: str):
    program = (
        "import sys\n"
        "from niphash.apps.cli import main\n"
        f"main(['search', {index!r}, 'photos/object00/view0.jpg'])\n"
        "print([m for m in 'pytorch_lightning hydra matplotlib sklearn torchvision wandb fastapi'.split()"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_closed_pipe_is_no_error(index: str):
    words = [sys.executable, "-m", "niphash.apps.cli", "search", index, *["photos"] * 30]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert "Traceback" not in err
    assert "Exception" not in err


def test_an_index_without_a_model_has_the_recommended_one(niphash, place: Path, monkeypatch):
    folders = ("photos/object00", "photos/object01")
    torch.save(torchvision.models.squeezenet1_0(weights=None).state_dict(), "weights.pt")
    few = niphash("index", *folders, "--out", "few.index", "--weights", "weights.pt")
    assert "squeezenet1_0, with random hyperplanes, since fewer than" in few.lines[0]
    assert few.lines[1] == "6 photos in few.index, 64 bits each: 6 new"
    assert "fitted    on no photos: random hyperplanes (0 photos)" in niphash("info", "few.index").lines
    monkeypatch.setattr("niphash.pipeline.recommended.FEWEST_PHOTOS", 6)
    done = niphash("index", *folders, "--out", "my.index", "--weights", "weights.pt")
    assert done.lines[0].endswith("squeezenet1_0, hashing fitted on 6 of these photos")
    assert "fitted    on the indexed photos themselves (6 photos)" in niphash("info", "my.index").lines
    again = niphash("index", *folders, "--out", "my.index", "--weights", "weights.pt")
    assert again.lines[0] == "6 photos in my.index, 64 bits each: 6 as they were"
    assert "--weights is not looked at" in again.err
    with open_collection("my.index") as collection:
        path = Path("photos/object01/view0.jpg").resolve()
        assert len(collection) == 6
        assert collection.search(path, k=1)[0].path == path
        collection.remove([collection.search(path, k=1)[0].id])
        assert len(collection) == 5
        assert len(collection.add([path]).added) == 1
        assert len(collection) == 6


def test_a_recommended_model_that_cannot_be_had(niphash, place: Path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    done = niphash("index", "photos", "--out", "my.index", status=2)
    assert "give --weights <state dict of squeezenet1_0> or --model <folder>" in done.err
    assert not Path("my.index").exists()
    done = niphash("index", "photos", "--out", "my.index", "--model", "m", "--weights", "w", status=2)
    assert "leave it or --model away" in done.err
    niphash("index", "--move", "photos", "place", "--out", "my.index", status=2)
