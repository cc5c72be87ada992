"""Foreground colour estimation at soft edges, where a photo mixes the person with the background.

A pixel of the photo is `I = alpha F + (1 - alpha) B`. A cut-out that keeps `I` has a halo of the old background: it
needs `F`. This is Forte's blur fusion ("Approximate Fast Foreground Colour Estimation", 2021): the initial estimates
of F and B at a pixel are the means of the surrounding colours, weighted with alpha and 1 - alpha; the photo's own
pixel then corrects F. Two passes: first a wide window, then a narrow one.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.photo import Pixels

# Pixels: the means are computed in a copy no larger than the network's frame, because they have no finer detail.
LONG_SIDE = 384
WIDE, NARROW = 0.05, 0.016  # sides of the windows as shares of the long side: soft edges grow with the photo
STRIP = 1 << 17  # pixels processed at once at the photo's own size
LEAST = 1e-5  # keeps the weighted mean of a window without weight finite

Colours = NDArray[
    np.float32
]  # RGB in 0..255, [h, w, 3] or [n, 3]; weights are of the same type, 0..1, with one channel


def foreground(pixels: Pixels, alpha: Pixels, out: Pixels | None = None) -> Pixels:
    """Estimate the foreground colours where `alpha` mixes them with the background.

    Args:
        pixels: the photo, uint8 [H, W, 3].
        alpha: uint8 [H, W]; 0 is background, 255 foreground.
        out: uint8 [H, W, 3] with the photo's pixels, overwritten with the estimate to avoid a copy.

    Returns:
        uint8 [H, W, 3]: the estimate where alpha is between 0 and 255, and the photo's own pixels elsewhere.
        Without `out` it is a new array, or `pixels` itself if no alpha is in between.
    """
    soft = cv2.inRange(alpha, 1, 254)
    left, top, wide, tall = cv2.boundingRect(soft)
    if not wide:
        return pixels if out is None else out
    means = _means(pixels, alpha)
    estimate = pixels.copy() if out is None else out
    step = max(1, STRIP // wide)
    for start in range(top, top + tall, step):
        part = slice(start, min(start + step, top + tall)), slice(left, left + wide)
        where = soft[part] > 0
        if where.any():
            front, behind = (_enlarged(mean, part, alpha.shape)[where] for mean in means)
            share = _share(alpha[part][where])
            found = _corrected(pixels[part][where].astype(np.float32), share, front, behind)
            estimate[part][where] = np.rint(found).astype(np.uint8)
    return estimate


def _means(pixels: Pixels, alpha: Pixels) -> tuple[Colours, Colours]:
    """Mean foreground and background colours around each pixel, float32 [h, w, 3] in 0..255, after two passes."""
    height, width = alpha.shape
    scale = min(1.0, LONG_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shown = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = _share(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA))
    wide, narrow = (2 * round(part * max(size) / 2) + 1 for part in (WIDE, NARROW))
    front = _weighted_mean(shown, share, wide)
    behind = _weighted_mean(shown, 1 - share, wide)
    closer = _corrected(shown, share, front, behind)
    return _weighted_mean(closer, share, narrow), _weighted_mean(behind, 1 - share, narrow)


def _share(alpha: Any) -> Colours:
    """uint8 [...] in 0..255 to float32 [..., 1] in 0..1."""
    return np.asarray(alpha, np.float32)[..., None] * np.float32(1 / 255)


def _weighted_mean(colours: Colours, weight: Colours, window: int) -> Colours:
    side = (window, window)
    total = cv2.blur(colours * weight, side)
    share = cv2.blur(weight, side).reshape(weight.shape)
    mean: Colours = total / (share + np.float32(LEAST))
    return mean


def _corrected(shown: Colours, share: Colours, front: Colours, behind: Colours) -> Colours:
    """`front`, corrected by the difference of the photo's pixel from the mix of `front` and `behind`; 0..255."""
    found: Colours = front + share * (shown - share * front - (1 - share) * behind)
    return found.clip(0, 255)


def _enlarged(mean: Colours, part: tuple[slice, slice], shape: tuple[int, ...]) -> Colours:
    """The `part` of `mean` enlarged to `shape`, bilinear: float32 [rows, columns, 3]."""
    rows, columns = part
    down, across = mean.shape[0] / shape[0], mean.shape[1] / shape[1]
    place = np.array(
        [[across, 0, (columns.start + 0.5) * across - 0.5], [0, down, (rows.start + 0.5) * down - 0.5]], np.float32
    )
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = columns.stop - columns.start, rows.stop - rows.start
    return np.asarray(cv2.warpAffine(mean, place, size, flags=how, borderMode=cv2.BORDER_REPLICATE), np.float32)
