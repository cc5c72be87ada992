"""Draws a record: photo, mask and overlay side by side."""

from __future__ import annotations

import io

from humanseg.archive.capture.rewrite import eight_bit

HEIGHT = 480


def side_by_side(photo: bytes, mask: bytes) -> bytes:
    """A PNG, 480 pixels high: the upright photo, the mask, and the photo tinted where the mask is person."""
    from PIL import Image, ImageOps
    from pillow_heif import register_heif_opener

    register_heif_opener()  # Pillow cannot read HEIC on its own
    with Image.open(io.BytesIO(photo)) as opened, Image.open(io.BytesIO(mask)) as drawn:
        left = eight_bit(ImageOps.exif_transpose(opened)).convert("RGB")
        width = max(1, round(left.width * HEIGHT / left.height))
        left = left.resize((width, HEIGHT))
        middle = drawn.convert("L").resize((width, HEIGHT))
    tinted = Image.blend(left, Image.new("RGB", left.size, (10, 132, 255)), 0.5)
    right = Image.composite(tinted, left, middle)
    sheet = Image.new("RGB", (3 * width + 20, HEIGHT), "white")
    for place, part in enumerate((left, middle.convert("RGB"), right)):
        sheet.paste(part, (place * (width + 10), 0))
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()
