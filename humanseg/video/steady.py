"""Masks that do not flicker: each frame's probability is averaged with the ones before it, along the motion.

The motion is dense optical flow between two network-sized frames (DIS: Kroeger et al., "Fast Optical Flow using
Dense Inverse Search", 2016). What the frames before said is carried along it. Where the picture itself does not
follow the motion (what was hidden comes into view, a light goes on), or where one thing moves over another, the past
counts for less, and after a cut for nothing.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.photo import Pixels

Map = NDArray[np.float32]

PAST = 0.85  # the weight of the past where the picture follows the motion
MISMATCH = 10.0  # grey levels between the frame and the one before, moved, at which that weight has fallen to 1/e
SHEAR = 1.5  # pixels that the motion differs by within 3 pixels, at which it has: there something moves over another
CUT = 0.35  # share of pixels that do not follow the motion, above which it was a cut
NEAR = np.ones((7, 7), np.uint8)


class Steady:
    """Smooths the probabilities of one clip, frame after frame. Not to be shared between clips."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._grey: Pixels | None = None
        self._past: Map | None = None
        self._grid: Map | None = None

    def __call__(self, probability: Map, frame: Pixels) -> Map:
        """One frame's probability, float32 [h, w] in 0..1, steadied; `frame` is uint8 [h, w, 3] RGB, of that size."""
        grey = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)
        steady = probability
        if self._grid is None or self._grid.shape[:2] != grey.shape:
            self._grid = _grid(*grey.shape)
        elif self._grey is not None and self._past is not None:
            flow = self._flow.calc(grey, self._grey, None)  # type: ignore[call-overload]
            motion = np.asarray(flow, np.float32)
            where = self._grid + motion
            apart = _mismatch(grey, _moved(self._grey, where))
            if float((apart > 2 * MISMATCH).mean()) <= CUT:
                weight = PAST * np.exp(-np.square(apart / MISMATCH) - np.square(_shear(motion) / SHEAR))
                steady = np.asarray(probability + weight * (_moved(self._past, where) - probability), np.float32)
        self._grey, self._past = grey, steady
        return steady


def _grid(height: int, width: int) -> Map:
    across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.dstack((across, down))


def _moved(picture: NDArray[Any], where: Map) -> Map:
    moved = cv2.remap(picture, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return np.asarray(moved, np.float32)


def _mismatch(grey: Pixels, before: Map) -> Map:
    """Grey levels by which small windows differ. A change of the whole picture's brightness is no difference."""
    now = grey.astype(np.float32)
    same_light = before * (max(1.0, float(now.mean())) / max(1.0, float(before.mean())))
    return np.abs(np.asarray(cv2.blur(now - same_light, (5, 5)), np.float32))


def _shear(motion: Map) -> Map:
    """By how much the motion differs around each pixel: where one thing moves over another the flow is not exact."""
    spread = np.asarray(cv2.dilate(motion, NEAR), np.float32) - np.asarray(cv2.erode(motion, NEAR), np.float32)
    return np.asarray(spread.max(axis=2), np.float32)
