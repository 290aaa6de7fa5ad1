"""Checksums of photos: one read a run, and what has changed is read again."""

import hashlib
import os
from collections import Counter
from pathlib import Path

import pytest

from niphash.config import compose
from niphash.data import checksums
from niphash.data.checksums import content_checksum
from niphash.data.decode import UnreadableImage
from niphash.data.images import Box, ImageSet
from niphash.data.pictures.views import RotatedDisc
from niphash.pipeline.run import assemble
from niphash.pipeline.training import train


def test_a_checksum_is_that_of_the_bytes(tmp_path: Path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"photo")
    assert content_checksum(path, "a") == hashlib.blake2b(b"photo", digest_size=16).digest()


@pytest.mark.parametrize("same_size", [True, False])
def test_a_changed_file_is_read_again(tmp_path: Path, same_size: bool):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"photo")
    first = content_checksum(path, "a")
    path.write_bytes(b"photO" if same_size else b"photos")
    assert content_checksum(path, "a") != first
    times = path.stat()
    path.unlink()
    path.write_bytes(b"photo")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert content_checksum(path, "a") == first


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UnreadableImage, match="gone"):
        content_checksum(tmp_path / "gone.jpg", "gone")


def test_box_and_view_tell_images_of_one_file_apart(tmp_path: Path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"photo")
    whole = ImageSet(("a",), (path,))
    boxed = ImageSet(("a",), (path,), (Box(0, 0, 5, 5),))
    turned, further = (whole.with_view(RotatedDisc(angle)) for angle in (10.0, 20.0))
    assert len({images.checksum(0) for images in (whole, boxed, turned, further)}) == 4


def test_a_run_reads_each_file_once_for_its_checksum(object_folder: Path, tmp_path: Path, monkeypatch):
    reads: Counter[str] = Counter()
    read = checksums._read_checksum

    def counted(path: Path) -> bytes:
        reads[path.name if path.parent == object_folder else str(path)] += 1
        return read(path)

    monkeypatch.setattr(checksums, "_read_checksum", counted)
    monkeypatch.setattr(checksums, "_known", {})
    fisher = ("pooling.gaussians=2", "pooling.local_dim=8", "hashing=niphash", "bits=8")
    cfg = compose(["data=folder", f"data.root={object_folder}", f"paths.data_dir={tmp_path}", *fisher])
    train(assemble(cfg, tmp_path / "run"))
    assert len(reads) == 36
    assert set(reads.values()) == {1}
