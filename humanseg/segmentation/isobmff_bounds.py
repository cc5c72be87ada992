"""Limits on HEIC and AVIF: boxes, items, and the pixels of all tiles of a picture.

The container is ISO/IEC 14496-12, its items ISO/IEC 23008-12. A grid of 256 x 256 tiles may reference one large
picture 65,536 times, and a decoder decodes it each time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from humanseg.segmentation.errors import TooLarge

MAX_BOXES = 20_000
MAX_ITEMS = 2_000  # tiles included: a photo of 48 megapixels has about 200
TILE_SHARE = 4  # pixels of all tiles, as a multiple of the photo's limit
PARENTS = frozenset({b"meta", b"iprp", b"ipco", b"iref", b"iinf"})


def check_isobmff(data: bytes, max_pixels: int) -> None:
    """Check boxes, items and tiles of a HEIC or AVIF file. Raises TooLarge, naming the limit."""
    sizes: list[int] = []  # pixels of each size property, 0 for other properties
    associated: dict[int, list[int]] = {}
    parts: dict[int, list[int]] = {}
    items = 0
    for number, (kind, parent, start, end, wide) in enumerate(_boxes(data)):
        if number >= MAX_BOXES:
            raise _too_much(f"{MAX_BOXES:,} boxes")
        if kind == b"infe":
            items += 1
            if items > MAX_ITEMS:
                raise _too_much(f"{MAX_ITEMS:,} items")
        if parent == b"ipco":
            sizes.append(0)
            if kind == b"ispe":
                width, height = struct.unpack_from(">II", data, start + 4)
                sizes[-1] = width * height
        elif kind == b"ipma":
            associated |= dict(_associations(data, start, end))
        elif kind == b"dimg":
            step = ">I" if wide else ">H"
            size = struct.calcsize(step)
            (item,) = struct.unpack_from(step, data, start)
            (count,) = struct.unpack_from(">H", data, start + size)
            if count > MAX_ITEMS:
                raise _too_much(f"{MAX_ITEMS:,} tiles")
            first = start + size + 2
            parts[item] = [struct.unpack_from(step, data, first + size * entry)[0] for entry in range(count)]

    def pixels(item: int) -> int:
        return max((sizes[entry - 1] for entry in associated.get(item, []) if 0 < entry <= len(sizes)), default=0)

    for tiles in parts.values():
        if sum(map(pixels, tiles)) > TILE_SHARE * max_pixels:
            raise _too_much(f"{TILE_SHARE * max_pixels / 1e6:g} megapixels in tiles")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes, int, int, bool]]:
    """(type, parent's type, start of the body, end, whether ids have 32 bits) of every relevant box."""
    stack = [(0, len(data), b"", False)]
    while stack:
        at, stop, parent, wide = stack.pop()
        while at + 8 <= stop:
            size, kind = struct.unpack_from(">I4s", data, at)
            body = at + 8
            if size == 1:
                (size,) = struct.unpack_from(">Q", data, body)
                body += 8
            end = stop if size == 0 else at + size
            if end > stop or end < body:
                break  # damaged: the decoder reports it
            yield kind, parent, body, end, wide
            if kind in PARENTS:
                skip = {b"meta": 4, b"iref": 4, b"iinf": 6 if data[body] == 0 else 8}.get(kind, 0)
                stack.append((body + skip, end, kind, kind == b"iref" and data[body] == 1))
            at = end


def _associations(data: bytes, start: int, end: int) -> Iterator[tuple[int, list[int]]]:
    """(item, numbers of its properties) from `ipma` (23008-12, 9.3.2)."""
    version, wide = data[start], bool(data[start + 3] & 1)
    (count,) = struct.unpack_from(">I", data, start + 4)
    at = start + 8
    for _ in range(min(count, MAX_ITEMS)):
        if at >= end:
            return
        step = ">H" if version < 1 else ">I"
        (item,) = struct.unpack_from(step, data, at)
        at += struct.calcsize(step)
        number, at = data[at], at + 1
        if wide:
            yield item, [value & 0x7FFF for value in struct.unpack_from(f">{number}H", data, at)]
            at += 2 * number
        else:
            yield item, [value & 0x7F for value in data[at : at + number]]
            at += number


def _too_much(what: str) -> TooLarge:
    return TooLarge(
        f"The photo needs too much work to decode: more than {what} in one HEIC or AVIF file. Re-save it."
    )
