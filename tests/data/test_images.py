"""Image sets: order, crops, joins, checksums."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from niphash.data.images import Box, ImageSet, UnreadableImage, as_image_set, crop
from niphash.data.survey import image_files
from niphash.descriptors.local.sift import SiftDoG
from niphash.errors import InputError
from tests.data.replicas import jpeg, photograph, view


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b/2.jpg", "b/1.JPG", "a.jpg", ".hidden/3.jpg", "c/._4.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(jpeg(view(0, len(list(tmp_path.rglob("*"))), side=32)))
    (tmp_path / "notes.txt").write_text("no photo")
    return tmp_path


def test_a_folder_is_read_in_order_without_hidden_files(photos: Path) -> None:
    images = ImageSet.from_folder(photos)
    assert images.ids == ("a.jpg", "b/1.JPG", "b/2.jpg")
    assert [path.name for path in image_files(photos)] == ["a.jpg", "1.JPG", "2.jpg"]


def test_a_folder_without_images_or_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image in this folder"):
        ImageSet.from_folder(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        ImageSet.from_folder(tmp_path / "nothing")


def test_a_box_crops(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    photograph("rocket").save(path)
    boxed = ImageSet(("x",), (path,), (Box(10.4, 20.6, 110.2, 90.0),))
    expected = np.asarray(photograph("rocket"))[21:90, 10:110]
    np.testing.assert_array_equal(np.asarray(boxed.image(0)), expected)


def test_a_box_outside_the_image_is_refused() -> None:
    with pytest.raises(UnreadableImage, match="outside"):
        crop(photograph("rocket"), Box(700, 0, 800, 100), "x")


def test_checksums_tell_files_and_boxes_apart(photos: Path) -> None:
    images = ImageSet.from_folder(photos)
    boxed = ImageSet(images.ids, images.sources, (Box(0, 0, 5, 5),) * 3)
    assert len({images.checksum(i) for i in range(3)} | {boxed.checksum(i) for i in range(3)}) == 6


def test_arrays_files_and_pictures_become_image_sets(photos: Path) -> None:
    array = np.asarray(photograph("rocket"))
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    images = as_image_set([array, photos / "a.jpg", clear, array[..., 0]])
    assert [images.image(i).mode for i in range(4)] == ["RGB"] * 4
    assert (np.asarray(images.image(2)) == 255).all()
    np.testing.assert_array_equal(np.asarray(images.image(0)), array)


@pytest.mark.parametrize("shape", [(4, 4, 4), (4,), (4, 4, 3)])
def test_arrays_that_are_no_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="no picture"):
        as_image_set(np.zeros(shape, np.float32 if shape == (4, 4, 3) else np.uint8))


def test_a_file_its_picture_and_its_array_are_described_alike(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    photograph("rocket").resize((3200, 2133), Image.Resampling.LANCZOS).save(path, quality=95)
    picture = Image.open(path)
    images = as_image_set([path, picture, np.asarray(picture)])
    sift = SiftDoG(longer_side=320, peak=0)
    first, *others = (sift.extract(images.image(i)).descriptors for i in range(3))
    assert len(first) > 100
    for other in others:
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize(
    "value", [b"bytes", bytearray(b"bytes"), torch.zeros(3, 4, 4), 7, None, [b"bytes"], {"a.jpg"}]
)
def test_what_is_no_picture_is_refused_by_its_kind(value: object) -> None:
    with pytest.raises(InputError, match=r"is no picture; give a folder, a file, a PIL image"):
        as_image_set(value)  # type: ignore[arg-type]


def test_an_empty_array_is_refused() -> None:
    with pytest.raises(InputError, match=r"an array of uint8 \[0, 10, 3\] is no picture"):
        as_image_set(np.zeros((0, 10, 3), np.uint8))


def test_a_broken_pil_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(jpeg(photograph("rocket"))[:9000])
    with pytest.raises(UnreadableImage, match=r"image 0: is truncated"):
        as_image_set(Image.open(path))


def test_subsets_and_joins_keep_the_survey(photos: Path) -> None:
    images = ImageSet.from_folder(photos)
    assert images.notes() == ("left out: 1 hidden, 1 in .hidden",)
    assert images.subset([1]).survey == images.survey == (images + ImageSet((), ())).survey
    assert ImageSet((), ()).notes() == ()
