"""Temporal smoothing of masks: each frame's probability is averaged with the previous ones along the motion.

The motion is dense optical flow between two network-sized frames (DIS: Kroeger et al., "Fast Optical Flow using
Dense Inverse Search", 2016). The previous probability is warped along it. Where the picture does not follow the
motion (disocclusion, a light switched on), or where one object moves over another, the past has a lower weight, and
after a cut none.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.photo import Pixels

Map = NDArray[np.float32]

PAST = 0.85  # the weight of the past where the picture follows the motion
MISMATCH = 10.0  # difference in grey levels from the warped previous frame at which that weight falls to 1/e
SHEAR = 1.5  # difference of the motion in pixels, within 3 pixels, at which it does: an object boundary
CUT = 0.35  # share of pixels that do not follow the motion, above which it is a cut
NEAR = np.ones((7, 7), np.uint8)


class Steady:
    """Smooths the probabilities of one clip, frame by frame. Use one instance per clip."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._grey: Pixels | None = None
        self._past: Map | None = None
        self._grid: Map | None = None

    def __call__(self, probability: Map, frame: Pixels) -> Map:
        """Smooth one frame's probability, float32 [h, w] in 0..1; `frame` is uint8 [h, w, 3] RGB, of that size."""
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
    """Difference of small windows in grey levels, ignoring a change of the whole picture's brightness."""
    now = grey.astype(np.float32)
    same_light = before * (max(1.0, float(now.mean())) / max(1.0, float(before.mean())))
    return np.abs(np.asarray(cv2.blur(now - same_light, (5, 5)), np.float32))


def _shear(motion: Map) -> Map:
    """The local variation of the motion: at object boundaries the flow is inaccurate."""
    spread = np.asarray(cv2.dilate(motion, NEAR), np.float32) - np.asarray(cv2.erode(motion, NEAR), np.float32)
    return np.asarray(spread.max(axis=2), np.float32)
