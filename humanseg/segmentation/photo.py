"""Bytes to pixels: `read_photo` decodes a user's photo to upright RGB."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pillow_heif import register_heif_opener

from humanseg.segmentation import jpeg, tiff
from humanseg.segmentation.bounds import check_bounds
from humanseg.segmentation.errors import (
    BrokenImage,
    EmptyPhoto,
    NotAnImage,
    PhotoError,
    TooLarge,
    UnsupportedFormat,
)

register_heif_opener()

Pixels = NDArray[np.uint8]

# Only these decoders are run on untrusted bytes. JPEG includes MPO: a second picture after the first.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "HEIF", "AVIF")

# Unsupported formats that people send, recognised by their first bytes.
OTHER_FORMATS = {
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"<svg": "SVG",
    b"<?xml": "XML or SVG",
    b"\x00\x00\x01\x00": "ICO",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"FUJIFILMCCD-RAW": "Fujifilm RAW",
    b"qoif": "QOI",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"PK\x03\x04": "ZIP",
    b"\x1a\x45\xdf\xa3": "Matroska or WebM video",
    b"<!DOCTYPE": "HTML",
    b"<html": "HTML",
}
VIDEO_BRANDS = (b"isom", b"mp41", b"mp42", b"avc1", b"qt  ", b"M4V ", b"3gp", b"iso")

# EXIF orientation to the transformation that makes the stored pixels upright.
UPRIGHT = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[:, ::-1],
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: p.transpose(1, 0, 2)[::-1],
}
ORIENTATION = 0x0112

GREY_PART = 1 << 18  # samples processed at once, if they have more than 8 bits


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    pixels: uint8 [h, w, 3], RGB, upright. Smaller than the photo itself if only a mask was requested.
    width, height: of the photo itself, upright, in pixels.
    format: lower-case name of the file format ("jpeg", "png", "heif", ...).
    icc_profile: the RGB colour profile of the pixels, None for sRGB or if there was none.
    orientation: EXIF's, 1 to 8, of the pixels in the file.
    """

    pixels: Pixels
    width: int
    height: int
    format: str
    icc_profile: bytes | None = None
    orientation: int = 1


def read_photo(
    data: bytes,
    *,
    max_pixels: int = 50_000_000,
    least_side: int | None = None,
    admit: Callable[[int], None] = lambda pixels: None,
) -> Photo:
    """Decode `data` into upright RGB.

    With `least_side`, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as its long side is not
    shorter than that: libjpeg then averages in the DCT domain, at a fraction of the cost
    (ITU T.81; libjpeg-turbo's scaled IDCT). Transparent pixels are composited on white, as in viewers.

    `admit` is called with the number of pixels before decoding, and may raise a PhotoError.

    Raises EmptyPhoto, NotAnImage, BrokenImage, UnsupportedFormat, or TooLarge above `max_pixels` or the limits of
    `humanseg.segmentation.bounds`.
    """
    if not data:
        raise EmptyPhoto("The request contains no photo. Send one with: curl -F image=@photo.jpg URL")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about unusual metadata, which is dropped anyway
            check_bounds(data, max_pixels)
            return _decode(data, max_pixels, least_side, admit)
    except PhotoError:
        raise
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except Image.DecompressionBombError:
        raise TooLarge(_too_many_pixels(max_pixels)) from None
    except MemoryError:
        raise TooLarge("Decoding the photo needs more memory than the server has. Send a smaller one.") from None
    except Exception as error:
        # Decoders raise all kinds of exceptions on broken files (OSError, SyntaxError, struct.error, IndexError,
        # ...). Only the client's bytes are involved here, so each of them means a broken file.
        raise BrokenImage(
            f"The photo is damaged or truncated and can't be decoded ({_first_line(error)}). Send it again."
        ) from None


def _decode(data: bytes, max_pixels: int, least_side: int | None, admit: Callable[[int], None]) -> Photo:
    image = Image.open(BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width * height > max_pixels:
        raise TooLarge(_too_many_pixels(max_pixels, width, height))
    admit(width * height)
    name = (image.format or "").lower().replace("mpo", "jpeg")
    pixels = None
    if name == "jpeg" and image.mode in ("RGB", "L"):
        pixels = jpeg.decode(data, width, height, least_side)
    if pixels is None:
        if name == "jpeg" and least_side is not None:
            long_side = max(width, height)
            image.draft(None, (-(-width * least_side // long_side), -(-height * least_side // long_side)))
        image.load()  # the first frame only; raises on a truncated file
        if name != "jpeg":
            width, height = image.size  # Pillow makes TIFF upright while loading
        pixels = _rgb(image)
    orientation = _orientation(image)
    if orientation in UPRIGHT:
        pixels = np.ascontiguousarray(UPRIGHT[orientation](pixels))
        if orientation >= 5:
            width, height = height, width
    return Photo(pixels, width, height, name, _rgb_profile(image), orientation if orientation in UPRIGHT else 1)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; upright if the block is damaged, as in viewers."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:
        return 1


def _rgb(image: Image.Image) -> Pixels:
    """Any Pillow mode to uint8 [h, w, 3]."""
    if image.mode == "F" or image.mode.startswith("I"):
        return np.repeat(_eight_bits(image)[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        straight = image.convert("RGBA")
        white = Image.new("RGBA", straight.size, "white")
        image = Image.alpha_composite(white, straight)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _eight_bits(image: Image.Image) -> Pixels:
    """Convert a grey picture with more than 8 bits per sample to uint8 [h, w].

    16-bit samples keep their upper byte; floats in 0..1 are scaled, as image viewers do.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        if getattr(image, "tag_v2", {}).get(tiff.BITS) == (12,):  # which Pillow keeps in 0..4095
            values = values << 4
        rounded: Pixels = ((np.minimum(values, 65407) + 128) // 257).astype(np.uint8)  # in uint16: v / 257
        return rounded
    # In parts, because a large photo at once would need ten times its memory.
    parts = np.array_split(values.reshape(-1), values.size // GREY_PART + 1)
    highest = max(float(_finite(part).max(initial=0.0)) for part in parts)
    scale = 255.0 if image.mode == "F" and highest <= 1.0 else 1.0
    if highest > 255:
        scale = 1 / 257
    scaled = [np.clip(_finite(part) * scale + 0.5, 0, 255).astype(np.uint8) for part in parts]
    return np.concatenate(scaled).reshape(values.shape)


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _rgb_profile(image: Image.Image) -> bytes | None:
    """The colour profile to keep with the pixels: only an RGB profile of a plausible size."""
    profile = image.info.get("icc_profile")
    if image.mode == "RGB" and isinstance(profile, bytes) and 128 < len(profile) < 1_000_000:
        return profile if profile[16:20] == b"RGB " else None
    return None


def _unidentified(data: bytes) -> PhotoError:
    readable = "Supported are JPEG, PNG, WebP, GIF, TIFF, BMP, HEIC and AVIF."
    start = data[:64].lstrip()
    for magic, name in OTHER_FORMATS.items():
        if data.startswith(magic) or start.startswith(magic):
            return UnsupportedFormat(f"This is a {name} file, which is not supported. {readable}")
    if data[4:8] == b"ftyp" and data[8:12].startswith(VIDEO_BRANDS):
        return UnsupportedFormat(f"This is a video. Send a single picture. {readable}")
    depth = tiff.samples(data)
    if depth is not None and depth not in ((8, False), (16, False)):
        kind = "floating-point" if depth[1] else "whole-number"
        return UnsupportedFormat(
            f"This TIFF has {kind} samples of {depth[0]} bits, which are not supported. "
            "Save it with 8 or 16 bits per sample."
        )
    known = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")
    if data.startswith(known) or data[4:8] == b"ftyp":
        return BrokenImage("The photo's header is damaged. Send the whole file again.")
    return NotAnImage(f"The bytes are not a picture. {readable}")


def _too_many_pixels(max_pixels: int, width: int = 0, height: int = 0) -> str:
    got = f" ({width}x{height})" if width else ""
    return f"The photo{got} has more than {max_pixels / 1e6:g} megapixels. Resize it."


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
