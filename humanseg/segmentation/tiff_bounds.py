"""Limits on TIFF directories, in TIFF files and EXIF blocks (TIFF 6.0; BigTIFF).

Pillow copies the value of every entry when it reads a directory, and decodes every strip and tile separately.
An entry's value may be the whole file, and a directory may have 65,535 entries of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from humanseg.segmentation.errors import TooLarge

MAX_ENTRIES = 1_000  # of a directory
MAX_VALUES = 128_000_000  # bytes of all values of a directory: a layered file has one as large as itself
MAX_PIECES = 40_000  # strips or tiles
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WIDTH, HEIGHT, SAMPLES, ROWS, PLANAR, TILE_WIDTH, TILE_HEIGHT = 256, 257, 277, 278, 284, 322, 323
PIECES = {273: "strips", 279: "strips", 324: "tiles", 325: "tiles"}  # offsets and byte counts


@dataclass(frozen=True)
class Entry:
    """One entry: `count` values of `kind`; the first one is `value` if it is an integer."""

    tag: int
    kind: int
    count: int
    value: int


def check_tiff(data: bytes) -> None:
    """Check the first directory of a TIFF file. Raises TooLarge, naming the limit."""
    entries = {entry.tag: entry for entry in _checked(data)}

    def first(tag: int, otherwise: int) -> int:
        return entries[tag].value if tag in entries else otherwise

    width, height = first(WIDTH, 0), first(HEIGHT, 0)
    if not width or not height:
        return  # damaged: the decoder reports it
    planes = first(SAMPLES, 1) if first(PLANAR, 1) == 2 else 1
    across, down = first(TILE_WIDTH, width) or width, first(TILE_HEIGHT, 0) or first(ROWS, height) or height
    needed = -(-width // max(1, across)) * -(-height // max(1, min(down, height))) * planes
    for tag, name in PIECES.items():
        if tag in entries:
            # Surplus pieces would be decoded, too, over existing pixels.
            allowed = min(MAX_PIECES, needed)
            if entries[tag].count > allowed:
                raise _too_much(f"{allowed:,} {name} of a TIFF of {width}x{height}")


def check_exif(block: bytes) -> None:
    """Check an EXIF block, with or without its "Exif" header. Raises TooLarge, naming the limit."""
    try:
        for _ in _checked(block.removeprefix(b"Exif\0\0")):
            pass
    except struct.error:
        return  # damaged: treated as a photo without EXIF


def _checked(data: bytes) -> Iterator[Entry]:
    total = 0
    for number, entry in enumerate(_entries(data)):
        total += entry.count * SIZES.get(entry.kind, 1)
        if number >= MAX_ENTRIES:
            raise _too_much(f"{MAX_ENTRIES:,} entries of a directory (TIFF or EXIF)")
        if total > MAX_VALUES:
            raise _too_much(f"{MAX_VALUES:,} bytes of values of a directory (TIFF or EXIF)")
        yield entry


def _entries(data: bytes) -> Iterator[Entry]:
    """The entries of the first directory."""
    order = ">" if data[:2] == b"MM" else "<"
    big = data[2:4] in (b"\0+", b"+\0")
    (at,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)
    (count,) = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, at)
    at += 8 if big else 2
    for _ in range(min(count, MAX_ENTRIES + 1)):
        tag, kind, values = struct.unpack_from(f"{order}HHQ" if big else f"{order}HHI", data, at)
        inline = at + (12 if big else 8)
        value = 0
        if kind in (3, 4, 16) and values == 1:
            (value,) = struct.unpack_from(order + {3: "H", 4: "I", 16: "Q"}[kind], data, inline)
        yield Entry(tag, kind, values, value)
        at += 20 if big else 12


def _too_much(what: str) -> TooLarge:
    return TooLarge(f"The photo needs too much work to decode: more than {what}. Re-save it and send that.")
