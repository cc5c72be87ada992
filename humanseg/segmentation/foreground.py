"""Foreground colour estimation at soft edges, where a photo mixes the person with the background.

A pixel of the photo is `I = alpha F + (1 - alpha) B`. A cut-out that keeps `I` has a halo of the old background: it
needs `F`. This is Forte's blur fusion ("Approximate Fast Foreground Colour Estimation", 2021): the initial estimates
of F and B at a pixel are the means of the surrounding colours, weighted with alpha and 1 - alpha; the photo's own
pixel then corrects F. Two passes: first a wide window, then a narrow one.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.photo import Pixels

# Pixels: the means are computed in a copy no larger than the network's frame, because they have no finer detail.
LONG_SIDE = 384
WIDE, NARROW = 0.05, 0.016  # sides of the windows as shares of the long side: soft edges grow with the photo
STRIP = 1 << 17  # pixels processed at once at the photo's own size
ROW = 512  # points that `cv2.remap` gets in a row: it takes at most 32,767 rows
LEAST = 1e-5  # keeps the weighted mean of a window without weight finite

Colours = NDArray[np.float32]  # RGB in 0..255, [h, w, 3] or [n, 3]
Weights = NDArray[np.float32]  # 0..1, the weight of each channel of such colours


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
        points = cv2.findNonZero(soft[part])
        if points is not None:
            columns, rows = points.reshape(-1, 2).T + np.array([[left], [start]], np.int32)
            front, behind = (_at(mean, rows, columns, alpha.shape) for mean in means)
            found = _corrected(pixels[rows, columns].astype(np.float32), _share(alpha[rows, columns]), front, behind)
            estimate[rows, columns] = np.rint(found).astype(np.uint8)
    return estimate


def _means(pixels: Pixels, alpha: Pixels) -> tuple[Colours, Colours]:
    """Mean foreground and background colours around each pixel, float32 [h, w, 3] in 0..255, after two passes."""
    height, width = alpha.shape
    scale = min(1.0, LONG_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shown = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = _share(np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA), np.uint8))
    wide, narrow = (2 * round(part * max(size) / 2) + 1 for part in (WIDE, NARROW))
    front = _weighted_mean(shown, share, wide)
    behind = _weighted_mean(shown, 1 - share, wide)
    closer = _corrected(shown, share, front, behind)
    return _weighted_mean(closer, share, narrow), _weighted_mean(behind, 1 - share, narrow)


def _share(alpha: Pixels) -> Weights:
    """uint8 [h, w] or [n] in 0..255 to float32 [h, w, 3] or [n, 3] in 0..1."""
    share = np.asarray(cv2.merge([alpha] * 3), np.float32) * np.float32(1 / 255)
    return share.reshape(*alpha.shape, 3)


def _weighted_mean(colours: Colours, weight: Weights, window: int) -> Colours:
    side = (window, window)
    total, share = cv2.blur(colours * weight, side), cv2.blur(weight[..., 0], side) + np.float32(LEAST)
    return np.asarray(cv2.divide(total, cv2.merge([share] * 3)), np.float32)


def _corrected(shown: Colours, share: Weights, front: Colours, behind: Colours) -> Colours:
    """`front`, corrected by the difference of the photo's pixel from the mix of `front` and `behind`; 0..255."""
    found: Colours = front + share * (shown - share * front - (1 - share) * behind)
    return found.clip(0, 255)


def _at(mean: Colours, rows: NDArray[np.int32], columns: NDArray[np.int32], shape: tuple[int, ...]) -> Colours:
    """`mean`, enlarged to `shape`, at some of its pixels, bilinear: float32 [n, 3]."""
    across, down = (
        _in_rows(((place + 0.5) * (size / whole) - 0.5).astype(np.float32))
        for place, size, whole in ((columns, mean.shape[1], shape[1]), (rows, mean.shape[0], shape[0]))
    )
    enlarged = cv2.remap(mean, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(enlarged, np.float32).reshape(-1, 3)[: len(rows)]


def _in_rows(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [n] as [m, ROW], filled up with zeros."""
    return np.pad(values, (0, -len(values) % ROW)).reshape(-1, ROW)
