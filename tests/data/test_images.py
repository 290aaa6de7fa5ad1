"""Image sets: order, crops, joins, checksums."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from niphash.data.images import Box, ImageSet, UnreadableImage, as_image_set, checksums, crop
from niphash.data.survey import image_files
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
    (photos / "a.jpg").unlink()
    assert checksums(images).shape == (2, 16)


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
