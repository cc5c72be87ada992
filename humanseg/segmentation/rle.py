"""COCO's run-length encoding of a mask, as pycocotools reads it.

The mask is read column by column; the counts alternate between background and person, background first. The
compressed form (cocoapi, common/maskApi.c, rleToString) writes each count from the third on as the difference
to the count two before it, in 5-bit groups, lowest first, each with a continuation bit, as one ASCII character.
"""

from __future__ import annotations

import cv2
import numpy as np

from humanseg.segmentation.photo import Pixels


def encode(mask: Pixels) -> dict[str, object]:
    """`mask`, uint8 [H, W], person where not 0, to {"size": [H, W], "counts": str}."""
    return {"size": [int(side) for side in mask.shape], "counts": compress(run_lengths(mask))}


def run_lengths(mask: Pixels) -> list[int]:
    """The uncompressed counts of `mask`, uint8 [H, W]; they add up to H * W."""
    columns = cv2.transpose(mask).ravel()
    edges = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    counts: list[int] = np.diff(np.concatenate(([0], edges, [columns.size]))).tolist()
    return [0, *counts] if columns[0] else counts


def compress(counts: list[int]) -> str:
    """Counts to COCO's string.

    >>> compress([6, 3, 40, 2])
    '63X1O'
    """
    text = bytearray()
    for index, count in enumerate(counts):
        rest = count - counts[index - 2] if index > 2 else count
        while True:
            group = rest & 0x1F
            rest >>= 5
            last = rest == (-1 if group & 0x10 else 0)
            text.append((group if last else group | 0x20) + 48)
            if last:
                break
    return text.decode("ascii")
