"""What a folder holds: told by content, links followed, and whatever is left out is counted by kind."""

import os
import struct
from pathlib import Path

import pytest

from niphash.data import decode, survey
from niphash.data.images import ImageSet
from niphash.data.survey import Survey, image_files, kind_of, walk_files
from niphash.errors import InputError
from tests.data.replicas import jpeg, view

PHOTO = view(0, 0, side=32)


def put(path: Path, content: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(PHOTO) if content is None else content)
    return path


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in image_files(root)]


def heic_header() -> bytes:
    return struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + b"\0" * 500


def test_a_phones_photos_are_told_by_what_they_are(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.jfif", "c.jpe", "noend", "export.bak"):
        put(tmp_path / name)
    PHOTO.save(tmp_path / "d.mpo", format="MPO", save_all=True, append_images=[PHOTO])
    PHOTO.save(tmp_path / "e.avif")
    PHOTO.save(tmp_path / "png.data", format="PNG")
    put(tmp_path / "notes", b"P5 is a page, and so is Python\n")  # begins like PPM
    put(tmp_path / "bmp.txt", b"BMW drives\n")
    images = ImageSet.from_folder(tmp_path)
    taken = {"a.JPG", "b.jfif", "c.jpe", "noend", "export.bak", "d.mpo", "e.avif", "png.data"}
    assert set(images.ids) == taken
    assert {images.image(i).size for i in range(len(images))} == {(32, 32)}
    assert images.survey is not None
    assert images.survey.summary() == "8 photos; left out: 1 .txt, 1 without suffix"


def test_heic_is_read_with_the_extra(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    big = view(0, 0, side=64)
    pillow_heif.from_pillow(big).save(tmp_path / "a.heic", quality=95)
    pillow_heif.from_pillow(big).save(tmp_path / "b.heic", quality=95)
    (tmp_path / "b.heic").rename(tmp_path / "b.jpg")  # phones send HEIC under other names
    images = ImageSet.from_folder(tmp_path)
    assert images.ids == ("a.heic", "b.jpg")
    assert images.image(0).size == (64, 64)
    assert images.image(0).tobytes() == images.image(1).tobytes()


def test_without_the_extra_heic_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (survey, decode):
        monkeypatch.setattr(module, "reads_heif", lambda: False)
    put(tmp_path / "a.heic", heic_header())
    put(tmp_path / "b.HEIC", heic_header())
    put(tmp_path / "edited.heic")  # a JPEG that kept its name
    images = ImageSet.from_folder(tmp_path)
    assert images.ids == ("edited.heic",)
    assert images.notes() == ("left out: 2 .heic (install niphash[heif])",)


def test_pictures_that_nothing_reads_are_named(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "raw.NEF", b"II*\0" + bytes(100))  # begins like TIFF, and holds a thumbnail
    put(tmp_path / "b.jxl", b"\xff\x0a" + bytes(100))
    assert ImageSet.from_folder(tmp_path).notes() == (
        "left out: 1 .jxl (cannot be read), 1 .nef (cannot be read)",
    )


def test_folders_and_files_of_systems_are_left_out_and_counted(tmp_path: Path) -> None:
    put(tmp_path / "cup/1.jpg")
    put(tmp_path / "cup/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg")
    put(tmp_path / "cup/@eaDir/1.jpg/SYNOPHOTO_THUMB_S.jpg")
    put(tmp_path / ".thumbnails/2.jpg")
    put(tmp_path / "__MACOSX/cup/._1.jpg")
    put(tmp_path / "cup/._1.jpg", b"\0\5\x16\7")
    put(tmp_path / "cup/Thumbs.db", b"x")
    put(tmp_path / ".DS_Store", b"x")
    images = ImageSet.from_folder(tmp_path)
    assert images.ids == ("cup/1.jpg",)
    assert images.survey == Survey(1, {"hidden": 1, "in .thumbnails": 1, "in @eaDir": 2, "in __MACOSX": 1})
    assert images.survey.summary().startswith("1 photo; left out: 2 in @eaDir, 1 ")


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    put(root / "obj0/a.jpg")
    put(root / "obj1/a.jpg")
    put(tmp_path / "real/obj2/a.jpg")
    (root / "obj2").symlink_to(Path("../real/obj2"))
    (root / "obj0/linked.jpg").symlink_to(Path("../../real/obj2/a.jpg"))
    (root / "obj1/loop").symlink_to(Path(".."))
    (root / "obj1/gone.jpg").symlink_to("nowhere.jpg")
    images = ImageSet.from_folder(root)
    assert images.ids == ("obj0/a.jpg", "obj0/linked.jpg", "obj1/a.jpg", "obj2/a.jpg")
    assert images.notes() == ("left out: 1 broken link, 1 linked folder seen already",)
    assert images.image(3).size == (32, 32)


def test_folders_that_link_to_each_other_are_entered_once(tmp_path: Path) -> None:
    for name in "abcdefgh":
        put(tmp_path / name / "1.jpg")
    for name in "abcdefgh":  # a walk along every path would take 8! steps
        for other in "abcdefgh":
            (tmp_path / name / f"to_{other}").symlink_to(tmp_path / other)
    assert names(tmp_path) == [f"{name}/1.jpg" for name in "abcdefgh"]


def test_a_linked_folder_counts_under_its_own_name_first(tmp_path: Path) -> None:
    put(tmp_path / "z/1.jpg")
    (tmp_path / "a").symlink_to("z")
    assert names(tmp_path) == ["z/1.jpg"]


def test_names_that_are_not_utf_8_are_taken(tmp_path: Path) -> None:
    name = os.fsdecode(b"latin\xe9/p\xe9.jpg")
    put(tmp_path / name)
    assert names(tmp_path) == [name]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "locked/1.jpg")
    scandir = os.scandir

    def refuse(folder: str) -> object:  # root, as whom tests may run, is refused nothing
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"locked: this folder cannot be read \(Permission denied\)"):
        list(walk_files(tmp_path))


def test_a_folder_without_photos_says_what_it_holds(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", b"text")
    put(tmp_path / "@eaDir/t.jpg")
    with pytest.raises(
        InputError, match=r"no image in this folder \(0 photos; left out: 1 in @eaDir, 1 .txt\)"
    ):
        ImageSet.from_folder(tmp_path)


def test_what_cannot_be_read_later_joins_the_summary() -> None:
    found = Survey(27, {"in @eaDir": 14, ".heic (install niphash[heif])": 2})
    unread = ["is truncated (5 bytes not processed)", "is truncated (it ends too early)", "is empty"]
    assert found.summary(unread) == (
        "24 photos; left out: 14 in @eaDir, 2 .heic (install niphash[heif]), 2 truncated, 1 empty"
    )
    assert kind_of("is HEIC (install niphash[heif])") == "HEIC (install niphash[heif])"


def test_a_summary_stays_one_printable_line(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / ".\x1b[2J\n/b.jpg")
    put(tmp_path / "c.\x1b[31m", b"x")
    for number in range(20):
        put(tmp_path / f"d.k{number}", b"x")
    line = ImageSet.from_folder(tmp_path).survey.summary()  # type: ignore[union-attr]
    assert line.isprintable()
    assert "1 in a hidden folder" in line
    assert line.endswith("14 of 14 other kinds")
