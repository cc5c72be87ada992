"""Strips metadata from a photo's bytes: EXIF, GPS, XMP, IPTC, comments, thumbnails, maker notes, ICC profile.

Only the pixels and the orientation, without which the mask would not fit, are kept:

| format     | how                                                                         | pixels      |
|------------|-----------------------------------------------------------------------------|-------------|
| JPEG       | segments on an allow list kept, trailing data dropped                       | bit for bit |
| PNG, WebP  | chunks on an allow list kept, trailing data dropped                         | bit for bit |
| GIF        | comments and application data dropped, the loop count too                   | bit for bit |
| HEIC, AVIF | rewritten with the compressed pixels of the visible picture (isobmff.py)    | bit for bit |
| TIFF, BMP  | first image re-encoded upright with Pillow (rewrite.py), lossless           | equal       |
| others     | containers that cannot be parsed: re-encoded as PNG                         | as 8 bit    |

The ICC profile is stripped because a screenshot contains the display's profile with its serial number, and the
network does not use it. The orientation is stored in a minimal EXIF block.

Formats: JPEG ITU-T T.81 annex B, EXIF 2.32, PNG (W3C 2003), WebP RFC 9649, GIF89a, HEIF ISO/IEC 23008-12.
"""

from __future__ import annotations

import re
import struct
import zlib

from isal import isal_zlib

from humanseg.archive.capture.isobmff import strip_isobmff
from humanseg.archive.capture.rewrite import orientation_of, rewrite_as_png, rewrite_same_format
from humanseg.archive.errors import NotStrippable

# Frame headers, tables (DHT C4, DAC CC, DQT DB), scans, restart interval. Decoders pass over JPG (C8) and DNL (DC).
_JPEG_KEPT = frozenset({*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDD} - {0xC8})
# 0xFF 0x00 is a data byte, D0 to D7 are restarts inside the scan, FF FF is filling. A regular expression,
# because walking a 10 MB photo in Python takes tens of milliseconds.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# By maximum length. cHRM is left out: 32 arbitrary bytes that neither serving nor training uses.
_PNG_KEPT = {b"IHDR": 13, b"PLTE": 768, b"tRNS": 256, b"gAMA": 4, b"sRGB": 1, b"sBIT": 4, b"cICP": 4, b"IEND": 0}
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_INFLATE_STEP = 1 << 22


def strip_metadata(photo: bytes, photo_format: str, orientation: int | None = None) -> tuple[bytes, str]:
    """Return `photo` without metadata, and its new format (the same, or "png" after the fallback).

    orientation: EXIF's, 1..8, if already known; None reads it from the photo.

    Raises:
        NotStrippable: neither the container parser nor Pillow could handle it.
    """
    try:
        if photo_format in ("jpeg", "mpo"):
            return strip_jpeg(photo, orientation), "jpeg"
        if photo_format == "png":
            return strip_png(photo, orientation), "png"
        if photo_format == "webp":
            return strip_webp(photo, orientation), "webp"
        if photo_format == "gif":
            return strip_gif(photo), "gif"
        if photo_format in ("heic", "heif", "avif"):
            return strip_isobmff(photo), photo_format
        if photo_format in ("tiff", "bmp"):
            return rewrite_same_format(photo, photo_format), photo_format
    except (NotStrippable, struct.error, IndexError):
        pass  # a decodable photo in an odd container: its pixels are still worth keeping
    return rewrite_as_png(photo), "png"


def strip_jpeg(photo: bytes, orientation: int | None = None) -> bytes:
    """JPEG without metadata; the compressed pixels are the same bytes."""
    if photo[:2] != b"\xff\xd8":
        raise NotStrippable("no start of image")
    view = memoryview(photo)
    parts: list[bytes | memoryview] = [view[:2]]  # joined once: scans are megabytes
    turned = orientation or orientation_of(photo)
    if turned != 1:
        exif = b"Exif\0\0" + minimal_exif(turned)
        parts += (b"\xff\xe1", struct.pack(">H", len(exif) + 2), exif)
    at, scans = 2, 0
    while True:
        if photo[at] != 0xFF:
            raise NotStrippable("bytes between segments")
        while photo[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker = photo[at + 1]
        if marker == 0xD9:
            if not scans:
                raise NotStrippable("no scan")
            return b"".join((*parts, b"\xff\xd9"))  # what follows (trailers, second images, videos) is dropped
        (length,) = struct.unpack_from(">H", photo, at + 2)
        end = at + 2 + length
        if length < 2 or end > len(photo):
            raise NotStrippable("a segment runs past the end")
        body = photo[at + 4 : end]
        if marker in _JPEG_KEPT:
            parts.append(view[at:end])
        elif marker == 0xEE and body[:5] == b"Adobe":
            # Marks the components as YCbCr, YCCK or CMYK: colours are wrong without it.
            parts += (b"\xff\xee", struct.pack(">H", 14), b"Adobe\0\x64\0\0\0\0", body[11:12])
        elif marker == 0xE0 and body[:5] == b"JFIF\0":
            # Version and a neutral density; a thumbnail that follows is dropped.
            parts += (b"\xff\xe0", struct.pack(">H", 16), b"JFIF\0\x01\x02\0\0\x01\0\x01\0\0")
        at = end
        if marker == 0xDA:
            scans += 1
            at = _end_of_scan(photo, at)
            parts.append(view[end:at])


def _end_of_scan(photo: bytes, at: int) -> int:
    """The end of the entropy-coded data that starts at `at`: the first real marker."""
    found = _JPEG_MARKER.search(photo, at)
    if found is None:
        raise NotStrippable("no end of image")
    return found.start()


def strip_png(photo: bytes, orientation: int | None = None) -> bytes:
    """PNG with only the chunks that define the picture."""
    signature = b"\x89PNG\r\n\x1a\n"
    if photo[:8] != signature:
        raise NotStrippable("no PNG signature")
    out, seen, pixels = bytearray(signature), set(), bytearray()
    turned, at = orientation or orientation_of(photo), 8
    while True:
        length, kind = struct.unpack_from(">I4s", photo, at)
        end = at + 12 + length
        if end > len(photo):
            raise NotStrippable("a chunk runs past the end")
        if kind == b"IDAT":
            pixels += photo[at + 8 : end - 4]
            out += photo[at:end]
        elif kind in _PNG_KEPT and length <= _PNG_KEPT[kind] and kind not in seen:
            seen.add(kind)
            if kind != b"PLTE" or photo[25] == 3:  # elsewhere it is a suggestion
                out += photo[at:end]
        if kind == b"IHDR" and turned != 1:
            out += _png_chunk(b"eXIf", minimal_exif(turned))
        if kind == b"IEND":
            _check_stream(bytes(pixels), *struct.unpack_from(">IIBBBBB", photo, 16))
            return bytes(out)
        at = end


def _check_stream(packed: bytes, width: int, height: int, depth: int, colour: int, *how: int) -> None:
    """Raise NotStrippable if there is data after the last row or after the end of the compressed stream."""
    bits = depth * _PNG_SAMPLES.get(colour, 4)
    passes = _ADAM7 if how[2] else ((0, 0, 1, 1),)
    wanted = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            wanted += rows * (1 + (columns * bits + 7) // 8)
    stream, got, rest = isal_zlib.decompressobj(), 0, packed
    while not stream.eof and got <= wanted:
        try:
            piece = stream.decompress(rest, _INFLATE_STEP)
        except Exception as error:  # isal's own error is no class for type checkers
            raise NotStrippable(f"pixels that can't be unpacked: {error}") from None
        rest = stream.unconsumed_tail
        got += len(piece)
        if not piece and not rest:
            break
    if got != wanted or stream.unused_data or rest:
        raise NotStrippable("bytes after the pixels")


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def strip_webp(photo: bytes, orientation: int | None = None) -> bytes:
    """WebP with only its image (or frames), alpha and canvas."""
    if photo[:4] != b"RIFF" or photo[8:12] != b"WEBP":
        raise NotStrippable("no WebP header")
    stop = 8 + struct.unpack_from("<I", photo, 4)[0]
    if stop > len(photo) + 1:
        raise NotStrippable("shorter than its header says")
    turned, chunks, at, extended = orientation or orientation_of(photo), bytearray(), 12, b""
    seen: set[bytes] = set()
    alpha = b""
    while at + 8 <= min(stop, len(photo)):
        kind, length = struct.unpack_from("<4sI", photo, at)
        body = photo[at + 8 : at + 8 + length]
        if len(body) != length:
            raise NotStrippable("a chunk runs past the end")
        moving = bool(extended and extended[0] & 2)
        if kind == b"VP8X" and not seen:
            extended = body
        elif moving and kind == b"ANIM" and kind not in seen:
            chunks += _riff_chunk(kind, body[:6])
        elif moving and kind == b"ANMF":
            chunks += _riff_chunk(kind, _frame_only(body))
        elif not moving and not seen & {b"VP8 ", b"VP8L"} and kind in (b"VP8 ", b"VP8L"):
            chunks += (alpha if kind == b"VP8 " else b"") + _riff_chunk(kind, body)
        elif kind == b"ALPH" and extended and extended[0] & 16 and kind not in seen:
            alpha = _riff_chunk(kind, body)  # VP8L has its own
        seen.add(kind)
        at += 8 + length + (length & 1)
    if not seen & {b"VP8 ", b"VP8L", b"ANMF"}:
        raise NotStrippable("no image chunk")
    if turned != 1 and not extended:
        raise NotStrippable("an orientation without the extended header")
    head = b""
    if extended:
        kept_flags = extended[0] & 0b0001_0010  # alpha and animation; ICC, EXIF and XMP bits go
        exif = 0b1000 if turned != 1 else 0
        head = _riff_chunk(b"VP8X", bytes([kept_flags | exif, 0, 0, 0]) + extended[4:10])
    if turned != 1:
        chunks += _riff_chunk(b"EXIF", minimal_exif(turned))
    body = b"WEBP" + head + bytes(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _frame_only(frame: bytes) -> bytes:
    """An animation frame without unknown chunks: 16 bytes of header, then ALPH and VP8/VP8L."""
    out, at = bytearray(frame[:16]), 16
    seen: set[bytes] = set()
    while at + 8 <= len(frame) and not seen & {b"VP8 ", b"VP8L"}:
        kind, length = struct.unpack_from("<4sI", frame, at)
        if kind in (b"ALPH", b"VP8 ", b"VP8L") and kind not in seen:
            out += _riff_chunk(kind, frame[at + 8 : at + 8 + length])
        seen.add(kind)
        at += 8 + length + (length & 1)
    return bytes(out)


def _riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)


def strip_gif(photo: bytes) -> bytes:
    """GIF with only its screen, palettes, frames and their timing."""
    if photo[:6] not in (b"GIF87a", b"GIF89a"):
        raise NotStrippable("no GIF header")
    at = 13 + (3 << ((photo[10] & 7) + 1) if photo[10] & 0x80 else 0)
    out, frames = bytearray(photo[:at]), 0
    while True:
        kind = photo[at]
        if kind == 0x3B or (frames and kind not in (0x21, 0x2C)):
            if not frames:
                raise NotStrippable("no frame")
            return bytes(out + b"\x3b")
        if kind == 0x21:
            end = _end_of_blocks(photo, at + 2)
            if photo[at + 1] == 0xF9 and photo[at + 2] == 4:  # graphic control: transparency and delay
                out += photo[at : at + 7] + b"\0"
        elif kind == 0x2C:
            palette = 3 << ((photo[at + 9] & 7) + 1) if photo[at + 9] & 0x80 else 0
            end = _end_of_blocks(photo, at + 10 + palette + 1)
            out += photo[at:end]
            frames += 1
        else:
            raise NotStrippable("an unknown block")
        at = end


def _end_of_blocks(photo: bytes, at: int) -> int:
    while photo[at]:
        at += photo[at] + 1
    return at + 1


def minimal_exif(orientation: int) -> bytes:
    """A TIFF block (EXIF 2.32, 4.6.4) with one entry, orientation 1..8, and nothing behind it."""
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
