"""Archives: what is unpacked, and what is refused without leaving a trace."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from niphash.data.download.archives import Limits, unpack
from niphash.errors import InputError
from tests.data.replicas import make_ukbench_replica, tar_gz, zipped


def tar_with(path: Path, *members: tarfile.TarInfo, content: bytes = b"x") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = len(content) if member.isfile() else 0
            tar.addfile(member, io.BytesIO(content) if member.isfile() else None)
    return path


def info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def content_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("pack", [tar_gz, zipped])
def test_what_was_packed_is_unpacked(tmp_path: Path, pack: object) -> None:
    replica = make_ukbench_replica(tmp_path / "replica", objects=2)
    archive = pack(replica, tmp_path / ("a.tgz" if pack is tar_gz else "a.zip"))  # type: ignore[operator]
    assert unpack(archive, tmp_path / "out") == 8
    assert content_of(tmp_path / "out") == content_of(replica)


def test_a_plain_tar_is_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = info("f.txt")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"hello"))
    unpack(tmp_path / "a.tar", tmp_path / "out")
    assert content_of(tmp_path / "out") == {"f.txt": b"hello"}


REFUSED = {
    "up": info("../outside.jpg"),
    "up_inside": info("a/../../outside.jpg"),
    "absolute": info("/outside.jpg"),
    "windows": info("..\\outside.jpg"),
    "drive": info("C:/outside.jpg"),
    "symlink": info("link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
    "hardlink": info("link.jpg", tarfile.LNKTYPE, "../secret"),
    "device": info("zero", tarfile.CHRTYPE),
    "pipe": info("pipe", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_members_that_could_do_harm_are_refused(tmp_path: Path, case: str) -> None:
    archive = tar_with(tmp_path / "a.tgz", info("good.jpg"), REFUSED[case])
    out = tmp_path / "deep" / "out"
    with pytest.raises(InputError, match="not unpacked") as caught:
        unpack(archive, out)
    assert str(archive) in str(caught.value)
    assert content_of(tmp_path) == {"a.tgz": archive.read_bytes()}  # not even the good member


def test_zip_members_that_could_do_harm_are_refused(tmp_path: Path) -> None:
    for number, name in enumerate(("../outside.jpg", "/outside.jpg")):
        archive = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(archive, "w") as target:
            target.writestr(name, b"x")
        with pytest.raises(InputError, match="points outside"):
            unpack(archive, tmp_path / "out")
    archive = tmp_path / "link.zip"
    with zipfile.ZipFile(archive, "w") as target:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        target.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="is a link"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "outside.jpg").exists()
    assert content_of(tmp_path / "out") == {}


@pytest.mark.parametrize("suffix", ["tgz", "zip"])
def test_a_bomb_of_zeros_is_refused(tmp_path: Path, suffix: str) -> None:
    zeros = b"\0" * (80 * 2**20)
    archive = tmp_path / f"bomb.{suffix}"
    if suffix == "tgz":
        tar_with(archive, info("zeros.jpg"), content=zeros)
    else:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
            target.writestr("zeros.jpg", zeros)
    assert archive.stat().st_size < 2**20
    with pytest.raises(InputError, match="unpacks to more than"):
        unpack(archive, tmp_path / "out")
    assert content_of(tmp_path / "out") == {}


def test_a_bomb_in_a_tar_header_is_refused(tmp_path: Path) -> None:
    header = info("pax", tarfile.XHDTYPE)
    header.size = 200 * 2**20
    archive = tmp_path / "bomb.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.fileobj.write(header.tobuf())  # type: ignore[union-attr]
        tar.fileobj.write(b"\0" * header.size)  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"unpacks to more than|damaged"):
        unpack(archive, tmp_path / "out")


def test_more_members_or_bytes_than_the_limits_are_refused(tmp_path: Path) -> None:
    archive = tar_with(tmp_path / "a.tgz", *(info(f"{i}.txt") for i in range(6)), content=b"y" * 100)
    with pytest.raises(InputError, match="more than 5 members"):
        unpack(archive, tmp_path / "out", Limits(members=5))
    with pytest.raises(InputError, match="more than 599 bytes"):
        unpack(archive, tmp_path / "out", Limits(size=599))
    assert unpack(archive, tmp_path / "out", Limits(members=6, size=600)) == 6


@pytest.mark.parametrize("pack", [tar_gz, zipped])
def test_a_damaged_archive_is_refused_and_leaves_nothing(tmp_path: Path, pack: object) -> None:
    replica = make_ukbench_replica(tmp_path / "replica", objects=2)
    archive = pack(replica, tmp_path / ("a.tgz" if pack is tar_gz else "a.zip"))  # type: ignore[operator]
    whole = archive.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"\0" * 600, whole[:1000] + b"\xaa" * 50 + whole[1050:]):
        archive.write_bytes(damaged)
        with pytest.raises(InputError, match=archive.name):
            unpack(archive, tmp_path / "out")
        assert content_of(tmp_path / "out") == {}


@pytest.mark.parametrize("place", [".unpacking-a.tgz", "jpg", "jpg/deep"])
def test_nothing_is_unpacked_through_a_link_that_is_there(tmp_path: Path, place: str) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (out / place).parent.mkdir(parents=True)
    (out / place).symlink_to(outside)
    archive = tar_with(tmp_path / "a.tgz", info("jpg/deep/photo.jpg"), info("readme.txt"))
    with pytest.raises(InputError, match=r"is a link, and nothing is written through links"):
        unpack(archive, out)
    assert content_of(outside) == {"kept": b"x"}
    assert not (out / "readme.txt").exists()
