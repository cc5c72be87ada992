"""Photos that carry what phones put into them: GPS, a thumbnail, a maker's note, XMP, a comment, ICC."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pillow_heif
from PIL import Image, ImageCms, PngImagePlugin

pillow_heif.register_heif_opener()

# Every one of these must be gone from the archived bytes.
MAKE = b"SECRET-MAKE-8f1"
NOTE = b"SECRET-NOTE-2c7"
XMP_WORD = b"SECRET-XMP-77a"
COMMENT = b"SECRET-COMMENT-d41"
TRAILER = b"SECRET-TRAILER-e02"
LATITUDE = struct.pack(">IIIIII", 52, 1, 31, 1, 4711, 100)
LATITUDE_LITTLE_ENDIAN = struct.pack("<IIIIII", 52, 1, 31, 1, 4711, 100)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a>' + XMP_WORD + b"</a></x:xmpmeta>"
FORMATS = ("jpeg", "png", "webp", "gif", "tiff", "bmp", "heic", "avif")


def picture(width: int = 96, height: int = 64, seed: int = 0) -> Image.Image:
    """A smooth RGB picture with no symmetry, so that a wrong orientation shows."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def thumbnail() -> bytes:
    """The JPEG thumbnail inside `exif()`."""
    out = io.BytesIO()
    picture(32, 24, seed=99).save(out, "JPEG", quality=50)
    return out.getvalue()


def exif(orientation: int = 6) -> bytes:
    """A TIFF block with orientation, make, maker's note, GPS position and a thumbnail (EXIF 2.32)."""
    entries0 = [(0x010F, 2, MAKE + b"\0"), (0x0112, 3, struct.pack(">H", orientation))]
    exif_ifd = [(0x927C, 7, NOTE)]
    gps_ifd = [(1, 2, b"N\0"), (2, 5, LATITUDE), (3, 2, b"E\0"), (4, 5, LATITUDE)]
    small = thumbnail()
    body = bytearray(b"MM\0*\0\0\0\x08")

    def size(entries: list[tuple[int, int, bytes]], pointers: int = 0) -> int:
        return 2 + 12 * (len(entries) + pointers) + 4 + sum(len(v) + 3 & ~3 for _, _, v in entries if len(v) > 4)

    exif_at = 8 + size(entries0, 2)
    gps_at = exif_at + size(exif_ifd)
    thumb_at = gps_at + size(gps_ifd)

    def write(entries: list[tuple[int, int, bytes]], following: int) -> None:
        start = len(body)
        data_at = start + 2 + 12 * len(entries) + 4
        table, data = bytearray(struct.pack(">H", len(entries))), bytearray()
        unit = {2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
        for tag, kind, value in sorted(entries):
            table += struct.pack(">HHI", tag, kind, len(value) // unit[kind])
            if len(value) > 4:
                table += struct.pack(">I", data_at + len(data))
                data.extend(value + b"\0" * (-len(value) % 4))
            else:
                table += value.ljust(4, b"\0")
        body.extend(table + struct.pack(">I", following) + data)

    pointer = [(0x8769, 4, struct.pack(">I", exif_at)), (0x8825, 4, struct.pack(">I", gps_at))]
    write(entries0 + pointer, thumb_at)
    assert len(body) == exif_at
    write(exif_ifd, 0)
    assert len(body) == gps_at
    write(gps_ifd, 0)
    assert len(body) == thumb_at
    ends = thumb_at + 2 + 12 * 2 + 4
    write([(0x0201, 4, struct.pack(">I", ends)), (0x0202, 4, struct.pack(">I", len(small)))], 0)
    return bytes(body) + small


def icc() -> bytes:
    """A valid sRGB profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def secrets_of(photo_format: str) -> list[bytes]:
    """The byte strings that `phone_photo(photo_format)` carries and that must not reach the archive."""
    carried = {
        "gif": [COMMENT, XMP_WORD, TRAILER],
        "bmp": [TRAILER],
        "png": [MAKE, NOTE, LATITUDE, thumbnail(), XMP_WORD, COMMENT, TRAILER],
        "tiff": [MAKE, NOTE, LATITUDE_LITTLE_ENDIAN, XMP_WORD, TRAILER, icc()[128:400]],
        "jpeg": [MAKE, NOTE, LATITUDE, thumbnail(), XMP_WORD, COMMENT, TRAILER, icc()[128:400]],
    }
    return carried.get(photo_format, [MAKE, NOTE, LATITUDE, XMP_WORD, TRAILER, icc()[128:400]])


def phone_photo(photo_format: str, orientation: int = 6, seed: int = 0, width: int = 96, height: int = 64) -> bytes:
    """A photo in `photo_format` with all the metadata that this format can carry."""
    out, image, block = io.BytesIO(), picture(width, height, seed), exif(orientation)
    if photo_format == "jpeg":
        image.save(out, "JPEG", quality=90, exif=b"Exif\0\0" + block, xmp=XMP, comment=COMMENT, icc_profile=icc())
    elif photo_format == "png":
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", COMMENT.decode())
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        image.save(out, "PNG", exif=block, pnginfo=text, icc_profile=icc())
    elif photo_format == "webp":
        image.save(out, "WEBP", quality=90, exif=block, xmp=XMP, icc_profile=icc())
    elif photo_format == "gif":
        image.convert("P").save(out, "GIF", comment=COMMENT)
        xmp = b"\x21\xff\x0bXMP DataXMP" + XMP + b"\x01" + bytes(range(255, -1, -1)) + b"\0"
        start = 13 + (3 << (out.getvalue()[10] & 7) + 1)
        return out.getvalue()[:start] + xmp + out.getvalue()[start:] + TRAILER
    elif photo_format == "tiff":
        tags = Image.Exif()
        tags.load(block)
        tags[700] = XMP
        image.save(out, "TIFF", exif=tags, icc_profile=icc())
    elif photo_format == "bmp":
        image.save(out, "BMP")
    elif photo_format == "heic":
        pillow_heif.from_pillow(image).save(out, quality=90, exif=block, xmp=XMP, icc_profile=icc())
        return out.getvalue() + _box(b"sefd", TRAILER)
    elif photo_format == "avif":
        image.save(out, "AVIF", quality=90, exif=block, xmp=XMP, icc_profile=icc())
        return out.getvalue() + _box(b"sefd", TRAILER)
    return out.getvalue() + TRAILER


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def with_png_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """`png` with one more chunk behind its header."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:33] + chunk + png[33:]


def mask_png(width: int = 96, height: int = 64) -> bytes:
    """A binary mask: a filled ellipse of 255 on 0."""
    y, x = np.mgrid[0:height, 0:width]
    inside = ((x - width / 2) / (width / 3)) ** 2 + ((y - height / 2) / (height / 3)) ** 2 < 1
    out = io.BytesIO()
    Image.fromarray(np.where(inside, 255, 0).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def jpeg(number: int = 0, width: int = 96, height: int = 64) -> bytes:
    """A plain JPEG whose pixels depend on `number`."""
    out = io.BytesIO()
    picture(width, height, seed=number).save(out, "JPEG", quality=85)
    return out.getvalue()
