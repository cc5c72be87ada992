"""Re-encodes photos whose metadata can't be stripped: the only part of the archive that decodes pixels.

Pillow is imported when needed, with a decoder for HEIC, which it lacks: every format that the server accepts can be
read here, in any process.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from humanseg.archive.errors import NotStrippable

ORIENTATION = 0x0112


def load_decoders() -> None:
    """Let Pillow read HEIC in this process, as it does in a worker."""
    from pillow_heif import register_heif_opener

    register_heif_opener()


def orientation_of(photo: bytes) -> int:
    """The EXIF orientation 1..8 as Pillow sees it (EXIF first, then XMP), which is what serving applied."""
    from PIL import Image

    load_decoders()

    try:
        with Image.open(io.BytesIO(photo)) as image:
            value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a broken EXIF block shows as many types; serving then ignores the orientation, too
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def rewrite_same_format(photo: bytes, photo_format: str) -> bytes:
    """Re-encode the first image of a TIFF (deflate) or BMP, upright and in its mode: no pixel changes.

    Raises:
        NotStrippable: Pillow can't read it or can't write its mode in this format.
    """
    with _opened(photo, f"{photo_format} can't be re-encoded") as image:
        image.load()  # Pillow turns a TIFF upright here, by itself
        out = io.BytesIO()
        if photo_format == "tiff":
            _bare(image).save(out, "TIFF", compression="tiff_adobe_deflate")
        else:
            _bare(image).save(out, "BMP")
    return out.getvalue()


def rewrite_as_png(photo: bytes) -> bytes:
    """Encode the first image as an upright 8-bit PNG: the fallback for anything that Pillow can read.

    Raises:
        NotStrippable: Pillow can't read it.
    """
    with _opened(photo, "can't be re-encoded") as image:
        upright = _upright(image)
        mode = "RGBA" if upright.has_transparency_data else "RGB"
        out = io.BytesIO()
        _bare(upright.convert(mode)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def upright_rgb(photo: bytes) -> Any:
    """The first image, upright, as a Pillow picture in 8-bit RGB.

    Raises:
        NotStrippable: Pillow can't read it.
    """
    with _opened(photo, "can't be read") as image:
        return _upright(image).convert("RGB")


@contextlib.contextmanager
def _opened(photo: bytes, failure: str) -> Iterator[Any]:
    """The photo as a Pillow image; any error with it, reading or writing, is NotStrippable with `failure`."""
    from PIL import Image

    load_decoders()
    try:
        with Image.open(io.BytesIO(photo)) as image:
            yield image
    except Exception as error:
        raise NotStrippable(f"{failure}: {error}") from error


def _upright(image: Any) -> Any:
    from PIL import ImageOps

    return eight_bit(ImageOps.exif_transpose(image))


def rewrite_as_jpeg(photo: bytes) -> bytes:
    """A JPEG that is upright without EXIF: unchanged if possible, else re-encoded (quality 95)."""
    if orientation_of(photo) == 1:
        return photo
    from PIL import Image, ImageOps

    load_decoders()

    with Image.open(io.BytesIO(photo)) as image:
        out = io.BytesIO()
        _bare(ImageOps.exif_transpose(image)).save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


def _bare(image: Any) -> Any:
    """A copy with pixels and palette but without `info`, from which Pillow would write metadata."""
    bare = image.copy()
    transparency = image.info.get("transparency")
    bare.info = {} if transparency is None else {"transparency": transparency}
    for cache in ("_exif", "exif", "tag_v2", "tag", "encoderinfo"):
        bare.__dict__.pop(cache, None)
    return bare


def eight_bit(image: Any) -> Any:
    """16-bit and floating grey as 8-bit grey, scaled as serving scales it; other pictures as they are.

    Pillow's own conversion clips: a 16-bit picture would turn white, one of floats in 0..1 black.
    """
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    _, most = image.getextrema()
    if image.mode == "F" and most <= 1.0:
        return image.point(lambda value: value * 255 + 0.5).convert("L")
    if image.mode.startswith("I;16") or most > 255:
        return image.convert("F").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    return image.convert("L")
