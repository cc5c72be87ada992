"""Label Studio's brush run-lengths, which are not COCO's: a bit stream over the RGBA bytes of the picture.

The stream (thi.ng/rle-pack): 32 bits number of values, 5 bits word size - 1, four times 4 bits run size - 1, then
runs: 1 bit (1: one value, repeated; 0: as many values), 2 bits which run size, the run's length - 1, the values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from humanseg.labels.drawn import LabelError, Mask

HEADER = 32 + 5 + 4 * 4  # bits
LARGEST = 400_000_000  # values: a picture of 100 megapixels


def decode_brush(stream: Sequence[int], width: int, height: int) -> Mask:
    """The mask of a brush region: uint8 [height, width], 255 where its alpha is at least one half.

    Raises:
        LabelError: the stream is damaged, is COCO's, or has another picture size.
    """
    try:
        data = np.asarray(stream, np.int64)
    except (TypeError, ValueError, OverflowError):
        raise LabelError("its RLE is not a list of numbers") from None
    if data.ndim != 1 or data.size * 8 < HEADER or data.min(initial=0) < 0 or data.max(initial=0) > 255:
        raise LabelError("its RLE is not Label Studio's (a list of bytes); put COCO's RLE into a COCO JSON")
    values = _unpack(data.astype(np.uint8), 4 * width * height)
    return np.where(values.reshape(height, width, 4)[:, :, 3] > 127, np.uint8(255), np.uint8(0))


def _unpack(data: NDArray[np.uint8], expected: int) -> NDArray[np.uint8]:
    """Decode uint8 [expected] from a stream. Raises LabelError if it has another number of values."""
    whole = data.tobytes()
    bits = np.unpackbits(data)

    def number(start: int, size: int) -> int:
        end = start + size
        if end > bits.size:
            raise LabelError("its RLE is truncated")
        part = int.from_bytes(whole[start >> 3 : (end + 7) >> 3], "big")
        return (part >> (-end % 8)) & ((1 << size) - 1)

    total = number(0, 32)
    if total != expected or total > LARGEST:
        pixels = f"{total // 4} pixels" if total % 4 == 0 else f"{total} values"
        raise LabelError(f"its RLE has {pixels}, but the region has {expected // 4}")
    word = number(32, 5) + 1
    if word != 8:
        raise LabelError(f"its RLE has words of {word} bits; only 8 are supported")
    sizes = [number(37 + 4 * index, 4) + 1 for index in range(4)]
    out = np.empty(total, np.uint8)
    place, at = 0, HEADER
    while place < total:
        kind = number(at, 3)  # repeated or not, and which run size
        size = sizes[kind & 3]
        end = place + number(at + 3, size) + 1
        at += 3 + size
        if end > total:
            raise LabelError("its RLE is longer than the picture")
        if kind & 4:
            out[place:end] = number(at, 8)
            at += 8
        else:
            literal = bits[at : at + 8 * (end - place)]
            if literal.size < 8 * (end - place):
                raise LabelError("its RLE is truncated")
            out[place:end] = np.packbits(literal)
            at += literal.size
        place = end
    return out
