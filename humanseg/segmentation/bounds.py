"""Limits on the decoding work of a file, checked by parsing its container before any decoder runs.

Decoders do whatever a file demands: a JPEG of half a megabyte with 3,000 scans keeps one busy for minutes. Each limit
is several times what cameras, phones and editors write. Nothing is decoded here; the time is linear in the file size,
at the speed of `bytes.find`, and parsing stops at the first exceeded limit.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from humanseg.segmentation.errors import TooLarge
from humanseg.segmentation.isobmff_bounds import check_isobmff
from humanseg.segmentation.tiff_bounds import check_exif, check_tiff

MAX_SCANS = 100  # of a JPEG; progressive ones have about ten
SCANS_OF_ANY_SIZE = 20  # allowed for a photo of any size; smaller photos may have more
SCAN_PIXELS = 1_000_000_000  # scans x pixels: each scan of a progressive JPEG visits every block
MAX_SEGMENTS = 4_000  # of a JPEG, 64 KB each
MAX_FILL = 65_536  # meaningless bytes between the segments of a JPEG
MAX_CHUNKS = 50_000  # of a PNG or WebP: 60 MB in pieces of 1.2 KB
MAX_BLOCKS = 400_000  # of a GIF, at most 255 bytes each
MAX_FRAMES = 1_000  # of a GIF, WebP or APNG; only the first one is decoded

_FILL = re.compile(rb"\xff+")
# 0xFF 0x00 is a data byte, D0 to D7 are restarts inside the scan, FF FF is filling.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length (T.81, B.1.1.3)
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def check_bounds(data: bytes, max_pixels: int) -> None:
    """Check the container of `data`, a file of any format, before decoding.

    A damaged file passes: the decoder reports the damage. Raises TooLarge, naming the limit.
    """
    try:
        if data[:2] == b"\xff\xd8":
            check_jpeg(data)
        elif data[:8] == b"\x89PNG\r\n\x1a\n":
            check_png(data)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            check_webp(data)
        elif data[:4] == b"GIF8":
            check_gif(data)
        elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            check_tiff(data)
        elif data[4:8] == b"ftyp":
            check_isobmff(data, max_pixels)
    except (IndexError, struct.error):
        return


def check_jpeg(data: bytes) -> None:
    """Scans, segments, padding and EXIF of a JPEG (ITU-T T.81, annex B)."""
    at, fill, segments, scans, pixels = 2, 0, 0, 0, 1
    exif = bytearray()
    while at < len(data):
        start = data.find(b"\xff", at)
        found = _FILL.match(data, start) if start >= 0 else None
        if found is None:
            break
        fill += start - at + found.end() - start - 1
        _bound("bytes that belong to no segment of the JPEG", fill, MAX_FILL)
        if found.end() >= len(data):
            break
        marker, at = data[found.end()], found.end() + 1
        if marker == 0xD9:
            break
        if marker in _ALONE or marker == 0:
            fill += 2
            continue
        segments += 1
        _bound("segments of the JPEG", segments, MAX_SEGMENTS)
        end = at + max(2, struct.unpack_from(">H", data, at)[0])
        body = data[at + 2 : end]
        if marker in _FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", body, 1)
            pixels = max(pixels, height * width)
        elif marker == 0xE1 and body[:6] == b"Exif\0\0":
            exif += body[6:]  # Pillow concatenates several
        at = end
        if marker == 0xDA:
            scans += 1
            allowed = min(MAX_SCANS, max(SCANS_OF_ANY_SIZE, SCAN_PIXELS // pixels))
            _bound(f"scans of a JPEG of {pixels / 1e6:.1f} megapixels", scans, allowed)
            following = _MARKER.search(data, at)
            at = following.start() if following else len(data)
    check_exif(bytes(exif))


def check_png(data: bytes) -> None:
    """Chunks, frames and EXIF of a PNG (third edition, 5.3)."""
    at, chunks, frames = 8, 0, 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunks += 1
        frames += kind == b"fcTL"
        _bound("chunks of the PNG", chunks, MAX_CHUNKS)
        _bound("frames of the PNG", frames, MAX_FRAMES)
        if kind == b"eXIf":
            check_exif(data[at + 8 : at + 8 + length])
        if kind == b"IEND":
            return
        at += 12 + length


def check_webp(data: bytes) -> None:
    """Chunks, frames and EXIF of a WebP (RFC 9649, 2.3)."""
    at, chunks, frames = 12, 0, 0
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        chunks += 1
        frames += kind == b"ANMF"
        _bound("chunks of the WebP", chunks, MAX_CHUNKS)
        _bound("frames of the WebP", frames, MAX_FRAMES)
        if kind == b"EXIF":
            check_exif(data[at + 8 : at + 8 + length])
        at += 8 + length + (length & 1)


def check_gif(data: bytes) -> None:
    """Blocks and frames of a GIF (GIF89a)."""
    at = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    blocks = frames = 0
    while at < len(data) and data[at] in (0x21, 0x2C):
        if data[at] == 0x21:
            at += 2
        else:
            frames += 1
            _bound("frames of the GIF", frames, MAX_FRAMES)
            at += 11 + (3 << ((data[at + 9] & 7) + 1) if data[at + 9] & 0x80 else 0)
        for end in _sub_blocks(data, at):
            at = end
            blocks += 1
            _bound("blocks of the GIF", blocks, MAX_BLOCKS)


def _sub_blocks(data: bytes, at: int) -> Iterator[int]:
    """The end of each sub-block, including the terminator."""
    while data[at]:
        at += data[at] + 1
        yield at
    yield at + 1


def _bound(what: str, found: int, allowed: int) -> None:
    if found > allowed:
        raise TooLarge(
            f"The photo needs too much work to decode: more than {allowed:,} {what}. Re-save it and send that."
        )
