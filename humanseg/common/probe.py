"""The test image of readiness and health checks: a real prediction that must not be archived."""

from __future__ import annotations

import struct
import zlib


def _png(side: int) -> bytes:
    """A grey PNG of `side` x `side` pixels, encoded here (RFC 2083) so that its bytes never change."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    # Stored, not compressed: zlib's versions differ, and the archive recognises the probe by its bytes.
    rows = (b"\x00" + b"\x80" * side) * side
    stored = b"\x78\x01\x01" + struct.pack("<HH", len(rows), len(rows) ^ 0xFFFF) + rows
    stored += struct.pack(">I", zlib.adler32(rows))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", stored) + chunk(b"IEND", b"")


PROBE = _png(32)
