"""The worst decoding work per byte: CPU seconds and megabytes of hostile files, with and without the limits.

    python -m benchmarks.worst_bodies            a table in Markdown
    python -m benchmarks.worst_bodies --quick    small versions of the same files, in a minute

Each file is read in a process of its own, which is stopped after LIMIT CPU seconds. The last three rows are photos
that are allowed: the most that a request costs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

LIMIT = 40  # CPU seconds
Bodies = dict[str, Callable[[], bytes]]


def picture(width: int, height: int, kind: str, **options: object) -> bytes:
    """A gradient as a file."""
    row = np.linspace(0, 255, width, dtype=np.uint8)
    pixels = np.repeat(np.repeat(row[None, :, None], 3, 2), height, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def noise(side_x: int, side_y: int, kind: str, **options: object) -> bytes:
    """Noise as a file: as many bytes as a picture of this size can have."""
    pixels = np.random.default_rng(1).integers(0, 256, (side_y, side_x, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def jpeg_scans(scans: int, width: int = 2000, height: int = 1500) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    whole = picture(width, height, "jpeg", progressive=True, quality=30)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * scans + b"\xff\xd9"


def jpeg_between(filling: bytes) -> bytes:
    """A JPEG with `filling` behind its first marker."""
    whole = picture(64, 64, "jpeg")
    return whole[:2] + filling + whole[2:]


def tiff(entries: list[tuple[int, int, int, bytes]], tail: bytes = b"") -> bytes:
    """A little-endian TIFF; each entry is (tag, kind, count, four bytes of value), `tail` follows the directory."""
    body = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + b"\0\0\0\0" + tail


def tiff_pieces(count: int, rows: int, width: int, height: int) -> bytes:
    """A TIFF with `count` strips of `rows` rows, all of them the same zeros."""
    tags = 10
    at = 8 + 2 + 12 * tags + 4
    data = at + 8 * count
    offsets = np.full(count, data, "<u4").tobytes()
    sizes = np.full(count, width * min(rows, height), "<u4").tobytes()

    def long(value: int) -> bytes:
        return struct.pack("<I", value)

    entries = [
        *((256, 4, 1, long(width)), (257, 4, 1, long(height)), (258, 3, 1, long(8)), (259, 3, 1, long(1))),
        *((262, 3, 1, long(1)), (273, 4, count, long(at)), (277, 3, 1, long(1)), (278, 4, 1, long(rows))),
        *((279, 4, count, long(at + 4 * count)), (284, 3, 1, long(1))),
    ]
    return tiff(entries, offsets + sizes + bytes(width * min(rows, height)))


def exif_entries(count: int, size: int) -> bytes:
    """An EXIF block whose entries all have the same value of `size` bytes."""
    at = 8 + 2 + 12 * count + 4
    return tiff([(tag + 1, 7, size, struct.pack("<I", at)) for tag in range(count)], bytes(size))


def png_with(*chunks: tuple[bytes, bytes], times: int = 1) -> bytes:
    """A PNG with `chunks`, all of them `times` times, behind its header."""
    whole = picture(64, 64, "png")
    extra = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return whole[:33] + extra * times + whole[33:]


def gif_blocks(count: int) -> bytes:
    """A GIF with a comment in `count` blocks of one byte."""
    return picture(64, 64, "gif")[:-1] + b"\x21\xfe" + b"\x01x" * count + b"\0;"


def gif_comment_first(count: int) -> bytes:
    """The same in front of the picture, where a reader has to pass it."""
    whole = picture(64, 64, "gif")
    at = 13 + (3 << ((whole[10] & 7) + 1) if whole[10] & 0x80 else 0)
    return whole[:at] + b"\x21\xfe" + b"\x01x" * count + b"\0" + whole[at:]


def webp_chunks(count: int) -> bytes:
    """A WebP with `count` empty chunks of an unknown name."""
    whole = picture(64, 64, "webp", lossless=True)
    body = whole[8:] + (b"JUNK" + bytes(4)) * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


def heic_tiles(count: int) -> bytes:
    """A HEIC whose grid names one picture of 12 megapixels `count` times."""

    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", 8 + len(body)) + kind + body

    def infe(item: int, kind: bytes) -> bytes:
        return box(b"infe", b"\x02\0\0\0" + struct.pack(">HH", item, 0) + kind + b"\0")

    sizes = box(b"ispe", bytes(4) + struct.pack(">II", 4000, 3000))
    places = b"".join(struct.pack(">HBB", item, 1, 1) for item in (1, 2))
    meta = bytes(4) + box(b"hdlr", bytes(8) + b"pict" + bytes(13)) + box(b"pitm", bytes(4) + b"\0\x01")
    meta += box(b"iinf", bytes(4) + b"\0\x02" + infe(1, b"grid") + infe(2, b"hvc1"))
    links = struct.pack(">HH", 1, count) + b"\0\x02" * count
    meta += box(b"iref", bytes(4) + box(b"dimg", links))
    meta += box(b"iprp", box(b"ipco", sizes) + box(b"ipma", bytes(4) + struct.pack(">I", 2) + places))
    return box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", meta) + box(b"mdat", bytes(100))


def refused(part: float = 1.0) -> Bodies:
    """Files that ask for too much, by name; `part` of their size."""

    def n(count: int) -> int:
        return max(1, int(count * part))

    return {
        "JPEG, 3,000 scans": lambda: jpeg_scans(max(200, n(3_000))),
        "JPEG, 60 MB of fill bytes": lambda: jpeg_between(b"\xff" * n(60_000_000)),
        "JPEG, 60 MB of zeros between segments": lambda: jpeg_between(bytes(n(60_000_000))),
        "JPEG, 15 million empty segments": lambda: jpeg_between(b"\xff\xe5\0\x02" * n(15_000_000)),
        "JPEG, EXIF of 800 segments": lambda: jpeg_between(
            b"".join(
                b"\xff\xe1" + struct.pack(">H", len(piece) + 8) + b"Exif\0\0" + piece
                for piece in _pieces(exif_entries(60_000, max(4, n(2_000_000))), 65_000)
            )
        ),
        "TIFF, 5 million strips": lambda: tiff_pieces(max(50_000, n(5_000_000)), 1, 8, 60_000),
        "TIFF, 20,000 strips over each other": lambda: tiff_pieces(n(20_000), 2_000, 2_000, 2_000),
        "TIFF, 60,000 entries of 1 MB": lambda: exif_entries(max(2_000, n(60_000)), 1_000_000),
        "PNG, EXIF of 60,000 entries of 1 MB": lambda: png_with((b"eXIf", exif_entries(n(60_000), 1_000_000))),
        "PNG, 5 million chunks": lambda: png_with((b"abCd", b""), times=max(60_000, n(5_000_000))),
        "PNG, 1 million frames": lambda: png_with((b"fcTL", bytes(26)), times=n(1_000_000)),
        "GIF, 30 million blocks": lambda: gif_comment_first(max(500_000, n(30_000_000))),
        "GIF, 30 million blocks behind the picture": lambda: gif_blocks(max(500_000, n(30_000_000))),
        "WebP, 7 million chunks": lambda: webp_chunks(max(60_000, n(7_000_000))),
        "HEIC, 2,000 tiles of 12 megapixels": lambda: heic_tiles(2_000),
    }


def allowed() -> Bodies:
    """The most expensive photos that are read."""
    return {
        "allowed: PNG, 50 megapixels of noise, 16 bit": lambda: _sixteen_bit(7_000, 7_000),
        "allowed: JPEG, 50 megapixels, 20 scans": lambda: jpeg_scans(10, 8_000, 6_200),
        "allowed: WebP, 50 megapixels": lambda: picture(8_000, 6_200, "webp", lossless=True, method=0),
    }


def _sixteen_bit(width: int, height: int) -> bytes:
    file = io.BytesIO()
    row = np.linspace(0, 65_535, width, dtype=np.uint16)
    Image.fromarray(np.repeat(row[None], height, 0)).save(file, "png", compress_level=1)
    return file.getvalue()


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def read_one(path: Path, bounded: bool) -> None:
    """In a process of its own: read the file and print what it took."""
    from humanseg.segmentation import photo
    from humanseg.segmentation.errors import PhotoError

    if not bounded:
        photo.check_bounds = lambda data, max_pixels: None  # type: ignore[assignment]
    data = path.read_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(before.ru_utime + before.ru_stime) + LIMIT, -1))
    try:
        photo.read_photo(data)
        outcome = "read"
    except PhotoError as error:
        outcome = type(error).__name__
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"said": outcome, "seconds": seconds, "megabytes": (after.ru_maxrss - before.ru_maxrss) / 1024}))


def measure(data: bytes, bounded: bool) -> dict[str, object]:
    """What reading `data` takes: CPU seconds, megabytes above what the process had, and how it ended."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        command = [sys.executable, "-m", "benchmarks.worst_bodies", "--one", file.name]
        command += [] if bounded else ["--without-bounds"]
        result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        return {"said": "killed", "seconds": float(LIMIT), "megabytes": float("nan")}
    return dict(json.loads(result.stdout))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Hostile files: what they cost, with and without the bounds.")
    parser.add_argument("--quick", action="store_true", help="files of a tenth of the size")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--without-bounds", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        read_one(given.one, not given.without_bounds)
        return
    print("| body | MB | before: CPU s | MB | after: CPU s | MB | answer |\n|---|---|---|---|---|---|---|")
    for name, make in {**refused(0.1 if given.quick else 1.0), **allowed()}.items():
        data = make()
        before, after = measure(data, False), measure(data, True)
        cells = [name, f"{len(data) / 1e6:.1f}"]
        for sample in (before, after):
            cells += [f"{sample['seconds']:.2f}", f"{sample['megabytes']:.0f}"]
        print("|", " | ".join([*cells, str(after["said"])]), "|", flush=True)


if __name__ == "__main__":
    os.nice(10)
    main()
