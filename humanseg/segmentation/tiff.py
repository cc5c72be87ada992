"""A TIFF's sample format, for the error message about unsupported ones."""

from __future__ import annotations

import struct

BITS, FORMAT = 258, 339  # tags BitsPerSample and SampleFormat (TIFF 6.0, Adobe 1992)
SHORT = 3
FLOAT = 3  # of SampleFormat
MOST_ENTRIES = 512


def samples(data: bytes) -> tuple[int, bool] | None:
    """Bits per sample and whether samples are floating-point; None if `data` is not a TIFF or has neither tag.

    Reads only the first directory of a classic TIFF, and never raises.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(data[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        found = {}
        for index in range(min(count, MOST_ENTRIES)):
            tag, kind, length, value = struct.unpack_from(f"{order}HHI4s", data, start + 2 + 12 * index)
            if tag in (BITS, FORMAT) and kind == SHORT:
                # Up to two values are in the entry, more are elsewhere; all samples of a photo are equal.
                place = struct.unpack(f"{order}I", value)[0] if length > 2 else start + 2 + 12 * index + 8
                (found[tag],) = struct.unpack_from(f"{order}H", data, place)
    except struct.error:
        return None
    return (found[BITS], found.get(FORMAT) == FLOAT) if BITS in found else None
