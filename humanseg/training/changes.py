"""Robustness of masks to changes of a photo: JPEG, half size, blur, noise, grey, darkness, mirroring.

One metric per change: the mean IoU of the changed photo's mask with the photo's own mask. It needs no ground truth,
and 1 means that the change has no effect. With ground truth, the mean IoU with it shows whether the masks got worse
or merely different.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.training.metrics import iou

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Change = Callable[[Pixels], Pixels]  # uint8 [H, W, 3] RGB, to the same in the same shape, or half of it


def jpeg_30(pixels: Pixels) -> Pixels:
    """Through a JPEG of quality 30."""
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def half_size(pixels: Pixels) -> Pixels:
    """Half as wide and high."""
    height, width = (max(1, side // 2) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def blur(pixels: Pixels) -> Pixels:
    """Blur: a Gaussian with a sigma of 1/200 of the long side."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape[:2]) / 200), np.uint8)


def noise(pixels: Pixels) -> Pixels:
    """Gaussian noise of 20 levels, like a phone's in the evening; deterministic."""
    grain = np.random.default_rng(0).normal(0, 20, pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def grey(pixels: Pixels) -> Pixels:
    """Without colour."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def dark(pixels: Pixels) -> Pixels:
    """A quarter of the light (gamma 2.2)."""
    levels = 255 * (np.arange(256) / 255) * 0.25 ** (1 / 2.2)
    return np.asarray(cv2.LUT(pixels, np.rint(levels).astype(np.uint8)), np.uint8)


def mirrored(pixels: Pixels) -> Pixels:
    """Left and right exchanged."""
    return np.ascontiguousarray(pixels[:, ::-1])


CHANGES: dict[str, Change] = {
    "JPEG 30": jpeg_30,
    "half size": half_size,
    "blur": blur,
    "noise": noise,
    "grey": grey,
    "dark": dark,
    "mirrored": mirrored,
}


@dataclass(frozen=True)
class MeasuredPhoto:
    """One photo: its pixels, the predicted mask, and the ground truth, all [H, W]."""

    pixels: Pixels
    predicted: Mask
    true: Mask


def agreement(segment: Callable[[Pixels], Mask], photos: Sequence[MeasuredPhoto]) -> dict[str, tuple[float, float]]:
    """For each change: the mean IoU with the unchanged photos' masks, and with the ground truth.

    segment: RGB uint8 [H, W, 3] to a mask bool [H, W].
    """
    if not photos:
        return {}
    figures = {}
    for name, change in CHANGES.items():
        pairs = []
        for photo in photos:
            mask = segment(change(photo.pixels))
            if change is mirrored:
                mask = np.ascontiguousarray(mask[:, ::-1])
            mask = _like(mask, photo.predicted)
            pairs.append((iou(mask, photo.predicted), iou(mask, photo.true)))
        with_own, with_true = np.mean(pairs, axis=0)
        figures[name] = (float(with_own), float(with_true))
    return figures


def _like(mask: Mask, other: Mask) -> Mask:
    """`mask` at the size of `other`."""
    if mask.shape == other.shape:
        return mask
    size = other.shape[1], other.shape[0]
    grown = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown, np.uint8) > 127
