"""The manifest: what was written stays, what is hostile or damaged is named."""

import resource
import sqlite3
import time
from pathlib import Path

import pytest

from niphash.collection.manifest import FORMAT, Entry, Manifest
from niphash.collection.parts import make_folder
from niphash.errors import InputError


def photo(number: int, root: int = 1, name: bytes | None = None) -> Entry:
    return Entry(
        number,
        root,
        b"p%d.jpg" % number if name is None else name,
        bytes([number % 256]) * 16,
        5,
        6,
        7,
        number % 3 > 0,
    )


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    made = Manifest.create(tmp_path / "photos.sqlite", {"bits": "64"})
    with made.transaction():
        assert made.add_root(Path("/photos")) == 1
        made.add([photo(number) for number in made.reserve(7)])
    return made


def test_photos_are_read_back(manifest: Manifest):
    again = Manifest(manifest.path)
    assert list(again.all(rows=2)) == [photo(number) for number in range(7)]
    assert (len(again), again.coded()) == (7, 4)
    assert again.entries([3, 99, 5]) == {3: photo(3), 5: photo(5)}
    assert again.at(1, b"p4.jpg") == photo(4)
    assert again.at(2, b"p4.jpg") is None
    assert again.entries_of([photo(2).checksum]) == [photo(2)]
    assert again.roots() == {1: Path("/photos")}
    assert again.under(1, b"p3") == [(3, b"p3.jpg")]
    again.check()


def test_an_id_is_never_used_again(manifest: Manifest):
    with manifest.transaction():
        manifest.delete([photo(6)])
    with manifest.transaction():
        assert list(manifest.reserve(2)) == [7, 8]
    assert len(Manifest(manifest.path)) == 6


def test_names_that_are_no_text_and_long_lists_survive(manifest: Manifest):
    names = [b"\xff\xfe%d.jpg" % number for number in range(1200)]
    with manifest.transaction():
        ids = manifest.reserve(1200)
        manifest.add([photo(number, name=name) for number, name in zip(ids, names, strict=True)])
    held = Manifest(manifest.path).entries(ids)
    assert [held[number].name for number in ids] == names


def test_a_transaction_that_fails_changes_nothing(manifest: Manifest):
    before = manifest.path.read_bytes()

    def change() -> None:
        with manifest.transaction():
            manifest.delete([photo(1)])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change()
    assert manifest.path.read_bytes() == before
    assert len(manifest) == 7


def test_readers_see_that_others_wrote_and_cannot_write(manifest: Manifest):
    reader = Manifest(manifest.path)
    assert not reader.changed()
    with manifest.transaction():
        manifest.delete([photo(0)])
    assert reader.changed()
    assert not reader.changed()
    assert len(reader) == 6
    with pytest.raises(InputError), reader.transaction():
        reader.delete([photo(1)])


def test_a_manifest_in_a_folder_that_cannot_be_written_is_read(manifest: Manifest, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # the tests may run as root
    assert len(Manifest(manifest.path)) == 7


def sql(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("PRAGMA application_id = 7", "no manifest of an index"),
        (f"PRAGMA user_version = {FORMAT + 1}", "newer than"),
        ("CREATE TABLE more (a)", "its tables are others"),
        ("CREATE VIEW photos2 AS SELECT * FROM photos", "its tables are others"),
        (
            "CREATE TRIGGER t AFTER INSERT ON photos BEGIN DELETE FROM photos; END",
            "its tables are others",
        ),
    ],
)
def test_what_is_no_manifest_of_ours_is_refused_at_once(manifest: Manifest, statement: str, said: str):
    sql(manifest.path, statement)
    with pytest.raises(InputError, match=said):
        Manifest(manifest.path)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE photos SET path = CAST('../../etc/passwd' AS BLOB) WHERE id = 3",
        "UPDATE photos SET checksum = x'00' WHERE id = 3",
        "UPDATE photos SET coded = 1 - coded WHERE id = 3",
        "UPDATE photos SET id = 77 WHERE id = 3",
        "DELETE FROM photos WHERE id = 3",
        "UPDATE roots SET path = CAST('/etc' AS BLOB)",
        "UPDATE facts SET value = '0' WHERE name = 'following'",
    ],
)
def test_a_changed_row_is_named(manifest: Manifest, statement: str):
    sql(manifest.path, statement)
    with pytest.raises(InputError, match=r"photos\.sqlite: "):
        Manifest(manifest.path).check()


@pytest.mark.parametrize(
    "name", [b"../a.jpg", b"/etc/a.jpg", b"a//b", b"a/../../b", b"", b"a\0b", b"x" * 5000]
)
def test_a_sealed_path_that_leaves_its_root_is_refused(manifest: Manifest, name: bytes):
    with manifest.transaction():
        manifest.add([photo(number, name=name) for number in manifest.reserve(1)])
    with pytest.raises(InputError, match="damaged"):
        list(Manifest(manifest.path).all())


def test_a_flipped_byte_is_noticed_or_changes_nothing(manifest: Manifest):
    """Every byte of the file, one at a time; a byte of unused space may be anything."""
    whole = manifest.path.read_bytes()
    before = list(manifest.all())
    noticed = 0
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x41
        manifest.path.write_bytes(damaged)
        try:
            again = Manifest(manifest.path)
            again.check()
            assert list(again.all()) == before
            again.close()
        except InputError:
            noticed += 1
    assert noticed > 50


@pytest.mark.parametrize("content", [b"", b"no database at all", b"SQLite format 3\0" + b"\0" * 600])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "photos.sqlite").write_bytes(content)
    with pytest.raises(InputError, match=r"photos\.sqlite"):
        Manifest(tmp_path / "photos.sqlite")


def test_what_changed_is_dated(manifest: Manifest):
    assert abs(int(manifest.fact("changed")) - time.time()) < 600


def test_a_new_manifest_on_a_full_disk_is_named(tmp_path: Path):
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, unlimited[1]))
    try:
        with pytest.raises(InputError, match=r"photos.sqlite: cannot be written"):
            Manifest.create(tmp_path / "photos.sqlite", {"bits": "64"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert not (tmp_path / "photos.sqlite").exists()
    Manifest.create(tmp_path / "photos.sqlite", {"bits": "64"}).check()


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    for name in ("photos.sqlite.part", "photos.sqlite.part-journal", "photos.sqlite-journal"):
        (tmp_path / name).write_bytes(b"half of something")
    make_folder(tmp_path)
    Manifest.create(tmp_path / "photos.sqlite", {}).close()
    assert [path.name for path in tmp_path.iterdir()] == ["photos.sqlite"]
