"""Metadata leaves the photo; its pixels and the way it is held do not."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from humanseg.archive.capture.strip_metadata import minimal_exif, strip_gif, strip_jpeg, strip_metadata
from humanseg.archive.errors import NotStrippable
from tests.archive import photos


def upright(data: bytes) -> np.ndarray:
    """What a viewer shows: uint8 [H, W, 4]."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))


@pytest.mark.parametrize("photo_format", photos.FORMATS)
def test_a_phone_photo_loses_its_metadata_and_not_its_pixels(photo_format: str) -> None:
    sent = photos.phone_photo(photo_format)
    for secret in photos.secrets_of(photo_format):
        assert secret in sent, "the test's photo does not carry what it is to lose"
    clean, clean_format = strip_metadata(sent, photo_format)
    assert clean_format == photo_format
    for secret in photos.secrets_of(photo_format):
        assert secret not in clean
    with Image.open(io.BytesIO(clean)) as image:
        assert set(image.getexif()) <= allowed_tags(photo_format)
        assert not image.getexif().get_ifd(0x8825), "a GPS block is left"
        assert not image.getexif().get_ifd(0x8769), "an EXIF block is left"
        assert "icc_profile" not in image.info
        assert "comment" not in image.info
        assert not image.info.get("xmp", b"").strip()
    np.testing.assert_array_equal(upright(clean), upright(sent))


def allowed_tags(photo_format: str) -> set[int]:
    """Orientation; for TIFF also the tags without which there is no picture."""
    tiff = {256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 338}
    return {0x0112} | (tiff if photo_format == "tiff" else set())


@pytest.mark.parametrize("photo_format", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_kept(photo_format: str, orientation: int) -> None:
    sent = photos.phone_photo(photo_format, orientation)
    clean, _ = strip_metadata(sent, photo_format)
    with Image.open(io.BytesIO(clean)) as image:
        assert image.getexif().get(0x0112, 1) == orientation
    np.testing.assert_array_equal(upright(clean), upright(sent))


def test_a_jpeg_keeps_its_compressed_bytes() -> None:
    sent = photos.phone_photo("jpeg")
    clean, _ = strip_metadata(sent, "jpeg")
    scan = clean[clean.index(b"\xff\xda") : -2]
    assert len(scan) > 500
    assert scan in sent


@pytest.mark.parametrize(
    ("mode", "extra"),
    [
        ("RGB", {"progressive": True}),
        ("L", {}),
        ("CMYK", {}),
        ("RGB", {"restart_marker_blocks": 2}),
        ("RGB", {"subsampling": 0, "keep_rgb": True}),
    ],
)
def test_every_kind_of_jpeg_keeps_its_pixels(mode: str, extra: dict[str, object]) -> None:
    out = io.BytesIO()
    photos.picture().convert(mode).save(out, "JPEG", exif=photos.exif(3), **extra)
    clean, clean_format = strip_metadata(out.getvalue(), "jpeg")
    assert clean_format == "jpeg"
    assert photos.MAKE not in clean
    np.testing.assert_array_equal(upright(clean), upright(out.getvalue()))


def test_a_second_image_behind_a_jpeg_is_dropped() -> None:
    """Phones append a depth map, an HDR gain map or a video (MPO, motion photos)."""
    first, second = photos.phone_photo("jpeg"), photos.phone_photo("jpeg", seed=5)
    clean, _ = strip_metadata(first + second, "mpo")
    assert clean == strip_metadata(first, "jpeg")[0]


def test_a_thumbnail_in_the_jfif_header_goes() -> None:
    out = io.BytesIO()
    photos.picture().save(out, "JPEG")
    plain = out.getvalue()
    assert plain[2:4] == b"\xff\xe0"
    pixels = b"\x13\x37\x99" * 4
    fat = b"JFIF\0\x01\x02\0\0\x48\0\x48\x02\x02" + pixels
    sent = plain[:2] + b"\xff\xe0" + struct.pack(">H", 2 + len(fat)) + fat + plain[20:]
    clean = strip_jpeg(sent)
    assert pixels not in clean
    np.testing.assert_array_equal(upright(clean), upright(plain))


@pytest.mark.parametrize(("mode", "png_format"), [("P", "png"), ("1", "png"), ("I;16", "png"), ("LA", "png")])
def test_every_kind_of_png_keeps_its_pixels(mode: str, png_format: str) -> None:
    image = photos.picture().convert("L")
    image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    out = io.BytesIO()
    image.save(out, "PNG", transparency=0 if mode == "P" else None)
    sent = photos.with_png_chunk(out.getvalue(), b"tEXt", b"Comment\0" + photos.COMMENT)
    clean, clean_format = strip_metadata(sent, png_format)
    assert clean_format == "png"
    assert photos.COMMENT not in clean
    assert clean == out.getvalue()


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_with_alpha_or_frames_keeps_them(lossless: bool) -> None:
    frames = [photos.picture(seed=seed).convert("RGBA") for seed in range(3)]
    frames[0].putalpha(photos.picture(seed=9).convert("L"))
    out = io.BytesIO()
    frames[0].save(
        out,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        lossless=lossless,
        exif=photos.exif(1),
        xmp=photos.XMP,
    )
    clean, _ = strip_metadata(out.getvalue(), "webp")
    assert photos.XMP_WORD not in clean
    assert photos.MAKE not in clean
    with Image.open(io.BytesIO(clean)) as image:
        assert image.n_frames == 3
    np.testing.assert_array_equal(upright(clean), upright(out.getvalue()))


def test_a_gif_keeps_all_its_frames() -> None:
    frames = [photos.picture(seed=seed).convert("P") for seed in range(3)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=40, loop=0, comment=photos.COMMENT)
    clean = strip_gif(out.getvalue())
    assert photos.COMMENT not in clean
    with Image.open(io.BytesIO(clean)) as image:
        assert image.n_frames == 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_tiff_keeps_its_pixels(mode: str) -> None:
    grey = photos.picture().convert("L")
    image = (
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        if mode == "I;16"
        else photos.picture().convert(mode)
    )
    out = io.BytesIO()
    image.save(out, "TIFF", save_all=True, append_images=[photos.picture(seed=4)])
    clean, clean_format = strip_metadata(out.getvalue(), "tiff")
    assert clean_format == "tiff"
    with Image.open(io.BytesIO(clean)) as stripped:
        assert stripped.n_frames == 1, "only the first image is what the mask was made from"
        assert stripped.mode == image.mode
        np.testing.assert_array_equal(np.asarray(stripped), np.asarray(image))


def test_a_container_that_cannot_be_walked_is_written_anew() -> None:
    sent = photos.phone_photo("jpeg", orientation=6)
    clean, clean_format = strip_metadata(sent, "png")  # a photo whose format was told wrong
    assert clean_format == "png"
    assert all(secret not in clean for secret in photos.secrets_of("jpeg"))
    np.testing.assert_array_equal(upright(clean), upright(sent))


def test_what_nobody_can_read_is_refused_rather_than_kept_as_it_is() -> None:
    with pytest.raises(NotStrippable):
        strip_metadata(b"\xff\xd8 no photo " + photos.COMMENT, "jpeg")


@pytest.mark.parametrize("photo_format", photos.FORMATS)
def test_a_truncated_photo_is_refused_or_readable_but_never_kept_as_it_is(photo_format: str) -> None:
    sent = photos.phone_photo(photo_format)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        cut = sent[: int(len(sent) * share)]
        try:
            clean, _ = strip_metadata(cut, photo_format)
        except NotStrippable:
            continue
        assert all(secret not in clean for secret in photos.secrets_of(photo_format))
        with Image.open(io.BytesIO(clean)) as image:
            image.load()


def test_the_orientation_block_is_read_by_pillow() -> None:
    exif = Image.Exif()
    exif.load(minimal_exif(8))
    assert dict(exif) == {0x0112: 8}


def test_a_thumbnail_item_stays_behind_and_the_picture_does_not() -> None:
    """HEIC keeps thumbnails as items of their own, beside the one in EXIF."""
    pixels = np.random.default_rng(5).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "HEIF", quality=80, thumbnails=[128])
    sent = file.getvalue()
    with Image.open(io.BytesIO(sent)) as image:
        assert image.info["thumbnails"] == [128], "the test's photo carries no thumbnail"
    clean, clean_format = strip_metadata(sent, "heif")
    assert clean_format == "heif"
    assert len(clean) < len(sent) - 1000, "the thumbnail's bytes are still there"
    with Image.open(io.BytesIO(clean)) as image:
        assert not image.info.get("thumbnails")
        assert getattr(image, "n_frames", 1) == 1
    np.testing.assert_array_equal(upright(clean), upright(sent))
