"""Every kind of picture file has a defined result."""

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from niphash.data import decode
from niphash.data.decode import (
    FULL_PIXELS,
    MAX_PIXELS,
    Box,
    UnreadableImage,
    check_photo,
    photo_size,
    read_photo,
    to_rgb,
    upright_rgb,
)
from tests.data.replicas import jpeg, photograph

PHOTO = photograph("astronaut").resize((96, 64))


def saved(folder: Path, name: str, image: Image.Image, **options: object) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def pixels(path: Path) -> np.ndarray:
    image = read_photo(path, "photo")
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upside = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    # transposes that undo the stored one, by Pillow's constants, so that the photo comes out upright
    stored = PHOTO if upside is None else PHOTO.transpose(Image.Transpose(upside))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, "photo.png", stored, exif=exif)
    np.testing.assert_array_equal(pixels(path), np.asarray(PHOTO))


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    path = saved(tmp_path, "photo.jpg", PHOTO.convert("CMYK"), quality=98, subsampling=0)
    assert np.abs(pixels(path).astype(int) - np.asarray(PHOTO)).mean() < 3


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    path = saved(tmp_path, f"photo.{suffix}", Image.fromarray(deep))
    np.testing.assert_array_equal(pixels(path)[..., 0].ravel(), np.arange(256))


def test_a_dark_16_bit_picture_stays_dark(tmp_path: Path) -> None:
    path = saved(tmp_path, "photo.png", Image.fromarray(np.full((8, 8), 1000, np.uint16)))
    assert pixels(path).max() == round(1000 / 257)


def test_16_bit_colour_keeps_its_high_bytes(tmp_path: Path) -> None:
    deep = np.asarray(PHOTO).astype(np.uint16) * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    path = tmp_path / "photo.png"
    path.write_bytes(png(PHOTO.width, PHOTO.height, zlib.compress(rows), depth=16, colour=2))
    assert np.abs(pixels(path).astype(int) - np.asarray(PHOTO)).max() <= 1


def test_float_tiff_is_stretched_from_its_own_range(tmp_path: Path) -> None:
    values = np.linspace(-2.0, 3.0, 256, dtype=np.float32).reshape(16, 16)
    path = saved(tmp_path, "photo.tif", Image.fromarray(values))
    np.testing.assert_array_equal(pixels(path)[..., 1].ravel(), np.arange(256))


def test_float_tiff_with_nan_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, "photo.tif", Image.fromarray(np.full((4, 4), np.nan, np.float32)))
    with pytest.raises(UnreadableImage, match="no finite numbers"):
        read_photo(path, "photo")


@pytest.mark.parametrize("mode", ["P", "L", "1"])
def test_palette_grey_and_black_and_white(tmp_path: Path, mode: str) -> None:
    image = PHOTO.convert(mode)
    path = saved(tmp_path, "photo.png", image)
    np.testing.assert_array_equal(pixels(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_white(tmp_path: Path, mode: str) -> None:
    image = PHOTO.convert(mode)
    image.putalpha(Image.new("L", PHOTO.size, 0))
    assert (pixels(saved(tmp_path, "clear.png", image)) == 255).all()
    image.putalpha(Image.new("L", PHOTO.size, 128))
    half = np.asarray(PHOTO.convert(mode).convert("RGB")) * (128 / 255) + 255 * (127 / 255)
    assert np.abs(pixels(saved(tmp_path, "half.png", image)) - half).max() <= 1


def test_a_palette_with_a_transparent_colour_is_composited_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.putpixel((0, 0), 0)
    found = pixels(saved(tmp_path, "photo.png", image, transparency=0))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[4, 4].tolist() == [200, 10, 10]


def test_progressive_jpeg_equals_baseline(tmp_path: Path) -> None:
    baseline = saved(tmp_path, "baseline.jpg", PHOTO, quality=90)
    progressive = saved(tmp_path, "progressive.jpg", PHOTO, quality=90, progressive=True)
    assert progressive.read_bytes() != baseline.read_bytes()
    assert np.abs(pixels(progressive).astype(int) - pixels(baseline)).max() <= 2


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif"])
def test_the_first_of_several_frames_is_read(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path, f"photo.{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
    red, green, blue = pixels(path).reshape(-1, 3).mean(axis=0)
    assert red > 245
    assert max(green, blue) < 5


def test_webp(tmp_path: Path) -> None:
    path = saved(tmp_path, "photo.webp", PHOTO, lossless=True)
    np.testing.assert_array_equal(pixels(path), np.asarray(PHOTO))


def test_the_first_bytes_count_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    PHOTO.save(path, format="PNG")
    np.testing.assert_array_equal(pixels(path), np.asarray(PHOTO))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_skipped_with_its_reason(tmp_path: Path, progressive: bool) -> None:
    path = saved(tmp_path, "photo.jpg", photograph("astronaut"), quality=90, progressive=progressive)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImage, match="truncated") as caught:
        read_photo(path, "photo 7")
    assert caught.value.image_id == "photo 7"
    assert "truncated" in caught.value.reason


def test_a_bomb_is_refused_before_decoding_and_without_warning(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(30_000, 30_000, b"", depth=8, colour=2))  # decoding it would fail otherwise
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnreadableImage, match=r"is too large .30000 x 30000 pixels"):
            read_photo(path, "bomb")


def test_a_large_picture_within_the_limit_gives_no_warning(tmp_path: Path) -> None:
    side = 10_000  # above the size at which Pillow warns
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS < side * side < MAX_PIXELS
    path = tmp_path / "large.jpg"
    Image.new("L", (side, side), 77).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_photo(path, "large")
    assert image.size == (3333, 3333)  # averaged over 3 x 3 pixels
    assert image.getextrema() == ((77, 77),) * 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<html>302 Found</html>", "is not an image"),
        (b"\xff\xd8\xff", "is (damaged|truncated)"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason):
        read_photo(path, "photo")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="does not exist"):
        read_photo(tmp_path / "nothing.jpg", "photo")
    with pytest.raises(UnreadableImage, match="is not a regular file"):
        read_photo(tmp_path, "photo")


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """Photos above 5000 pixels are averaged down, so that the tests need no large ones."""
    monkeypatch.setattr(decode, "FULL_PIXELS", 5000)
    monkeypatch.setattr(decode, "_STRIP_PIXELS", 700)
    return 5000


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("box", [None, Box(7.2, 3.4, 150, 99)])
def test_a_file_a_pil_image_and_an_array_give_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool, orientation: int, box: Box | None
) -> None:
    if large:
        monkeypatch.setattr(decode, "FULL_PIXELS", 5000)
        monkeypatch.setattr(decode, "_STRIP_PIXELS", 700)
    photo = photograph("rocket").crop((0, 0, 163, 211))
    path = saved(tmp_path, "photo.jpg", photo, quality=92, exif=exif(orientation))
    of_file = read_photo(path, "file", box)
    of_image = upright_rgb(Image.open(path), "image", box)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    of_array = upright_rgb(Image.fromarray(upright), "array", box)
    assert of_file.tobytes() == of_image.tobytes() == of_array.tobytes()
    assert of_file.size == of_image.size == of_array.size
    height, width = upright.shape[:2]
    left, top, right, bottom = (0, 0, width, height) if box is None else (7, 3, 150, 99)
    expected = upright[top:bottom, left:right]
    if large:
        side = int(np.ceil(np.sqrt(expected.shape[0] * expected.shape[1] / 5000)))
        rows, columns = expected.shape[0] // side, expected.shape[1] // side
        squares = expected[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
        expected = squares.mean((1, 3))
    assert np.abs(np.asarray(of_file) - expected.astype(float)).max() <= (0.6 if large else 0)


@pytest.mark.parametrize("mode", ["P", "RGBA", "L", "CMYK", "I;16", "F", "transparent P"])
def test_large_pictures_of_every_mode_are_averaged_after_they_are_rgb(
    tmp_path: Path, small_limit: int, mode: str
) -> None:
    photo = photograph("coffee").crop((0, 0, 180, 120))
    options: dict[str, object] = {}
    if mode in ("I;16", "F"):
        values = np.asarray(photo.convert("L")).astype(np.float32) * 200
        photo = Image.fromarray(values if mode == "F" else values.astype(np.uint16))
    else:
        photo = photo.convert(mode.split()[-1])
        if mode == "RGBA":
            photo.putalpha(100)
        if mode == "transparent P":
            options["transparency"] = 3
    path = saved(tmp_path, "photo.tif" if mode in ("F", "CMYK") else "photo.png", photo, **options)
    whole = np.asarray(to_rgb(Image.open(path))).astype(float)
    found = np.asarray(read_photo(path, "photo"))
    assert found.shape == (40, 60, 3)  # 3 x 3 pixels become one
    assert np.abs(found - whole.reshape(40, 3, 60, 3, 3).mean((1, 3))).max() <= 0.6


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000), (1, 1), (5001, 2)])
def test_thin_pictures_keep_a_pixel_of_their_short_side(
    tmp_path: Path, small_limit: int, size: tuple[int, int]
) -> None:
    path = saved(tmp_path, "line.png", Image.new("RGB", size, (9, 8, 7)))
    image = read_photo(path, "line")
    assert min(image.size) >= 1
    assert image.width * image.height <= small_limit
    assert image.getextrema() == ((9, 9), (8, 8), (7, 7))


def test_avif_is_read_upright(tmp_path: Path) -> None:
    photo = photograph("rocket").resize((96, 64))
    path = saved(tmp_path, "photo.avif", photo, quality=95, exif=exif(6))
    assert read_photo(path, "photo").size == (64, 96)
    assert photo_size(path, "photo") == (64, 96)
    turned = np.asarray(photo.transpose(Image.Transpose.ROTATE_270)).astype(float)
    assert np.abs(np.asarray(read_photo(path, "photo")) - turned).mean() < 6


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_size_is_told_from_the_header(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = saved(tmp_path, f"photo.{suffix}", PHOTO, exif=exif(orientation))
    assert photo_size(path, "photo") == read_photo(path, "photo").size


@pytest.mark.parametrize(
    ("image", "name", "options", "limit"),
    [
        ((8200, 8200), "w.webp", {"quality": 1, "method": 0}, 2**26),
        ((10_500, 10_300), "p.jpg", {"quality": 10, "progressive": True}, 2**30 // 10),
    ],
)
def test_formats_that_take_much_memory_have_lower_limits(
    tmp_path: Path, image: tuple[int, int], name: str, options: dict[str, object], limit: int
) -> None:
    assert image[0] * image[1] < MAX_PIXELS
    path = saved(tmp_path, name, Image.new("RGB", image), **options)
    with pytest.raises(UnreadableImage, match=rf"is too large .* is {limit} in all"):
        read_photo(path, "photo")


def test_a_jpeg_of_countless_scans_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = saved(tmp_path, "photo.jpg", Image.new("RGB", (4000, 4000)), progressive=True)
    content = path.read_bytes()
    last = content.rindex(b"\xff\xda")
    scan, end = content[last:-2], content[-2:]
    path.write_bytes(content[:-2] + scan * 200 + end)  # a few bytes each, 16 million pixels of work
    with pytest.raises(UnreadableImage, match=r"is too large \(2\d\d scans of 4000 x 4000 pixels\)"):
        read_photo(path, "photo")
    assert FULL_PIXELS >= 4000 * 4000  # nothing else stops it


def test_a_check_finds_what_reading_finds(tmp_path: Path) -> None:
    path = saved(tmp_path, "photo.jpg", photograph("astronaut"), quality=90)
    check_photo(path, "photo")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImage, match="truncated"):
        check_photo(path, "photo")


def test_to_rgb_leaves_rgb_alone() -> None:
    assert to_rgb(PHOTO).tobytes() == ImageOps.exif_transpose(PHOTO).tobytes()


SEEDS = {
    "jpg": jpeg(PHOTO.resize((24, 16))),
    **dict.fromkeys(("png", "gif", "webp", "tiff", "bmp", "ppm", "avif")),
}


def seed_file(name: str) -> bytes:
    if SEEDS[name] is None:
        stream = io.BytesIO()
        PHOTO.resize((24, 16)).save(stream, name)
        SEEDS[name] = stream.getvalue()
    return SEEDS[name]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(SEEDS)),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=0, max_size=6)), max_size=5),
    keep=st.floats(0.05, 1),
)
def test_a_mutated_file_is_read_or_refused(
    tmp_path: Path, name: str, edits: list[tuple[float, bytes]], keep: float
) -> None:
    content = bytearray(seed_file(name))
    for where, what in edits:
        position = int(where * len(content))
        content[position : position + len(what)] = what
    path = tmp_path / f"photo.{name}"
    path.write_bytes(bytes(content[: int(keep * len(content))]))
    with contextlib.suppress(UnreadableImage):
        assert read_photo(path, "photo").mode == "RGB"


def png(width: int, height: int, data: bytes, depth: int, colour: int) -> bytes:
    """Return a PNG file with the header and the compressed rows given."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
