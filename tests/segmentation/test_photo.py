"""Every format and oddity of a photo comes out as upright RGB, or as an error that says what is wrong."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from humanseg.segmentation.appearance import appearance_of
from humanseg.segmentation.errors import BrokenImage, EmptyPhoto, NotAnImage, TooLarge, UnsupportedFormat
from humanseg.segmentation.frame import to_frame
from humanseg.segmentation.photo import ORIENTATION, read_photo
from humanseg.segmentation.spec import Spec
from humanseg.segmentation.tiff import samples


def gradient(width: int = 64, height: int = 48) -> np.ndarray:
    """A smooth picture with a red left-to-right and a green top-to-bottom ramp: any turn or flip shows."""
    red = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    green = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return np.dstack((red, green, np.full_like(red, 80))).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def close(pixels: np.ndarray, wanted: np.ndarray, tolerance: float = 6.0) -> bool:
    return pixels.shape == wanted.shape and np.abs(pixels.astype(int) - wanted).mean() < tolerance


PICTURE = gradient()
COLOUR = Image.fromarray(PICTURE)
LOSSLESS = {
    "png": saved(COLOUR, "PNG"),
    "webp": saved(COLOUR, "WEBP", lossless=True),
    "tiff": saved(COLOUR, "TIFF"),
    "tiff deflate": saved(COLOUR, "TIFF", compression="tiff_adobe_deflate"),
    "bmp": saved(COLOUR, "BMP"),
}
LOSSY = {
    "jpeg": saved(COLOUR, "JPEG", quality=95),
    "progressive": saved(COLOUR, "JPEG", quality=95, progressive=True),
    "cmyk": saved(COLOUR.convert("CMYK"), "JPEG", quality=95),
    "heic": saved(COLOUR, "HEIF", quality=95),
    "avif": saved(COLOUR, "AVIF", quality=95),
    "palette": saved(COLOUR.quantize(256), "PNG"),
    "gif": saved(COLOUR, "GIF"),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_keep_every_pixel(name: str) -> None:
    photo = read_photo(LOSSLESS[name])
    assert np.array_equal(photo.pixels, PICTURE)
    assert (photo.width, photo.height) == (64, 48)


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_keep_the_picture(name: str) -> None:
    photo = read_photo(LOSSY[name])
    assert close(photo.pixels, PICTURE)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16", "F"])
def test_every_kind_of_grey_becomes_rgb(mode: str) -> None:
    ramp = np.linspace(0, 255, 64)[None, :].repeat(48, 0)
    if mode == "I;16":
        data = saved(Image.fromarray((ramp * 257).astype(np.uint16)), "PNG")
    elif mode == "F":
        data = saved(Image.fromarray((ramp / 255).astype(np.float32)), "TIFF")
    else:
        data = saved(Image.fromarray(ramp.astype(np.uint8)).convert(mode), "PNG")
    pixels = read_photo(data).pixels
    assert pixels.shape == (48, 64, 3)
    assert pixels[:, :8].mean() < 40
    assert pixels[:, -8:].mean() > 215


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_deep_grey_photos_take_little_more_memory_than_colour_photos(kind: type) -> None:
    data = saved(Image.fromarray(np.tile(np.arange(1500), (1000, 1)).astype(kind)), "TIFF")
    tracemalloc.start()
    pixels = read_photo(data).pixels
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / pixels[..., 0].size < 16  # bytes a pixel, of which 3 are the answer's


def test_16_bit_levels_are_rounded_to_8() -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = read_photo(saved(Image.fromarray(levels), "PNG")).pixels
    assert (pixels[..., 1] == np.floor(levels / 257 + 0.5)).all()


def test_16_bit_colour_png_is_read() -> None:
    rows = b"".join(
        b"\x00" + b"".join(struct.pack(">HHH", x * 1000, y * 1000, 20000) for x in range(8)) for y in range(8)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    pixels = read_photo(data).pixels
    assert pixels[7, 7].tolist() == [7000 >> 8, 7000 >> 8, 20000 >> 8]


def test_transparent_pixels_lie_on_white() -> None:
    picture = np.dstack((PICTURE, np.zeros((48, 64), np.uint8)))
    assert (read_photo(saved(Image.fromarray(picture), "PNG")).pixels == 255).all()


def test_only_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "TIFF"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        assert read_photo(data).pixels[5, 10].argmax() == 0, kind


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    turned = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.transpose(1, 0, 2),
        6: PICTURE.transpose(1, 0, 2)[::-1],
        7: PICTURE.transpose(1, 0, 2)[::-1, ::-1],
        8: PICTURE.transpose(1, 0, 2)[:, ::-1],
    }[orientation]  # the stored pixels whose upright form is PICTURE
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options: dict[str, object] = {"exif": exif.tobytes()}
    if kind == "TIFF":
        tags = ImageFileDirectory_v2()
        tags[ORIENTATION] = orientation
        options = {"tiffinfo": tags}
    data = saved(Image.fromarray(np.ascontiguousarray(turned)), kind, **options)
    for least_side in (None, 16):
        photo = read_photo(data, least_side=least_side)
        assert (photo.width, photo.height) == (64, 48)
        small = np.array(COLOUR.resize(photo.pixels.shape[1::-1], Image.Resampling.BOX))
        assert close(photo.pixels, small)


def test_a_large_jpeg_is_decoded_small_where_only_its_shape_counts() -> None:
    data = saved(Image.fromarray(gradient(1600, 1200)), "JPEG", quality=90)
    photo = read_photo(data, least_side=256)
    assert (photo.width, photo.height) == (1600, 1200)
    assert photo.pixels.shape == (300, 400, 3)
    spec = Spec((256, 256))
    full, small = to_frame(read_photo(data).pixels, spec), to_frame(photo.pixels, spec)
    assert np.abs(full - small).max() < 0.04


def test_rgb_colour_profile_is_kept_for_pictures_of_the_photo() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read_photo(saved(COLOUR, "JPEG", icc_profile=profile)).icc_profile == profile
    assert read_photo(saved(COLOUR, "JPEG")).icc_profile is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_a_damaged_exif_block_does_not_spoil_the_photo(kind: str) -> None:
    data = saved(COLOUR, kind, exif=b"Exif\0\0garbage in here")
    assert close(read_photo(data).pixels, PICTURE)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", EmptyPhoto, "contains no photo"),
        (b"hello there, this is text", NotAnImage, "not a picture"),
        (bytes(range(256)) * 10, NotAnImage, "not a picture"),
        (b"%PDF-1.7 ...", UnsupportedFormat, "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedFormat, "SVG"),
        (b"8BPS\x00\x01", UnsupportedFormat, "Photoshop"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00", UnsupportedFormat, "video"),
        (b"\xff\xd8\xff\xe0 damaged", BrokenImage, "damaged"),
        (LOSSLESS["png"][:120], BrokenImage, "damaged or truncated"),
        (LOSSY["jpeg"][:-200], BrokenImage, "truncated"),
    ],
)
def test_what_is_no_photo_is_refused_by_name(data: bytes, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read_photo(data)


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    bomb = saved(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(TooLarge, match="more than 50 megapixels"):
        read_photo(bomb)
    with pytest.raises(TooLarge, match="8000x8000"):
        read_photo(saved(Image.new("1", (8000, 8000)), "PNG"))
    with pytest.raises(TooLarge, match="0.001 megapixels"):
        read_photo(LOSSLESS["png"], max_pixels=1000)
    assert read_photo(LOSSLESS["png"], max_pixels=64 * 48).width == 64


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.random.default_rng(0).random((9, 9, 3), np.float32), "floating-point samples of 32 bits"),
        (np.random.default_rng(0).random((9, 9, 3)).astype(np.float16), "floating-point samples of 16 bits"),
        (np.zeros((9, 9, 3), np.uint32), "whole-number samples of 32 bits"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_unread_samples_is_refused_with_their_bits(pixels: np.ndarray, words: str, order: str) -> None:
    file = BytesIO()
    tifffile.imwrite(file, pixels, photometric="rgb", byteorder=order)
    with pytest.raises(UnsupportedFormat, match=words):
        read_photo(file.getvalue())


def tiff_of(bits: int, samples_of_a_pixel: int, width: int, height: int, rows: bytes) -> bytes:
    """A TIFF of one strip, written by hand (TIFF 6.0): nothing here writes 12 bits."""
    depths = struct.pack(f"<{samples_of_a_pixel}H", *[bits] * samples_of_a_pixel)
    start = 8 + len(rows)
    place = start if samples_of_a_pixel > 2 else struct.unpack("<I", depths.ljust(4, b"\0"))[0]
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, samples_of_a_pixel, place), (259, 3, 1, 1),
        (262, 3, 1, 2 if samples_of_a_pixel == 3 else 1), (273, 4, 1, 8), (277, 3, 1, samples_of_a_pixel),
        (278, 4, 1, height), (279, 4, 1, len(rows)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<2sHI", b"II", 42, start + len(depths)) + rows + depths + directory + bytes(4)


def test_a_grey_tiff_of_12_bits_is_as_bright_as_it_was() -> None:
    value = 0xA5C  # of 0xFFF
    packed = bytes([value >> 4, (value & 0xF) << 4 | value >> 8, value & 0xFF])  # two pixels in three bytes
    photo = read_photo(tiff_of(12, 1, 8, 4, packed * 16))
    assert photo.pixels.shape == (4, 8, 3)
    assert np.abs(photo.pixels.astype(int) - round(255 * value / 0xFFF)).max() <= 1


def test_a_colour_tiff_of_12_bits_is_refused_with_its_bits() -> None:
    with pytest.raises(UnsupportedFormat, match="whole-number samples of 12 bits.*Save it with 8 or 16"):
        read_photo(tiff_of(12, 3, 8, 4, bytes(8 * 4 * 3 * 12 // 8)))


def test_grey_tiffs_of_16_bits_and_of_floats_are_read() -> None:
    for pixels in (np.full((9, 9), 32896, np.uint16), np.full((9, 9), 0.5, np.float32)):
        file = BytesIO()
        tifffile.imwrite(file, pixels, photometric="minisblack")
        assert abs(int(read_photo(file.getvalue()).pixels[0, 0, 0]) - 128) <= 1


@given(st.binary(max_size=200))
def test_noise_that_begins_like_a_tiff_says_nothing_of_its_samples_or_something(tail: bytes) -> None:
    for start in (b"II*\x00", b"MM\x00*", b""):
        count = samples(start + tail)
        assert count is None or 0 <= count[0] < 65536


def test_the_appearance_of_a_photo_is_its_light_contrast_and_sharpness_at_any_size(astronaut: np.ndarray) -> None:
    seen = appearance_of(astronaut)
    assert seen.brightness == pytest.approx(float((astronaut @ [0.299, 0.587, 0.114]).mean()) / 255, abs=0.01)
    dark = appearance_of((astronaut * 0.4).astype(np.uint8))
    assert dark.brightness == pytest.approx(0.4 * seen.brightness, abs=0.01)
    assert dark.contrast == pytest.approx(0.4 * seen.contrast, abs=0.01)
    assert dark.sharpness == pytest.approx(seen.sharpness, rel=0.05), "dark is not blurred"
    assert appearance_of(cv2.GaussianBlur(astronaut, (0, 0), 4)).sharpness < 0.3 * seen.sharpness
    large = appearance_of(cv2.resize(astronaut, (3000, 3000), interpolation=cv2.INTER_CUBIC))
    assert large.sharpness == pytest.approx(seen.sharpness, rel=0.15)
    assert appearance_of(np.full((5, 4000, 3), 7, np.uint8)).sharpness == 0
