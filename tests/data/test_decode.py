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

from niphash.data.decode import MAX_PIXELS, UnreadableImage, read_photo, to_rgb
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


def test_to_rgb_leaves_rgb_alone() -> None:
    assert to_rgb(PHOTO).tobytes() == ImageOps.exif_transpose(PHOTO).tobytes()


SEEDS = {
    "jpg": jpeg(PHOTO.resize((24, 16))),
    **dict.fromkeys(("png", "gif", "webp", "tiff", "bmp", "ppm")),
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
