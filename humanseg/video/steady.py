"""Masks that do not flicker: each frame's probability is averaged with the ones before it, along the motion.

The motion is dense optical flow between two network-sized frames (DIS: Kroeger et al., "Fast Optical Flow using
Dense Inverse Search", 2016). What the frames before said is carried along it. Where the picture itself does not
follow the motion (what was hidden comes into view, a light goes on), the past counts for less, and after a cut for
nothing.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.photo import Pixels

Map = NDArray[np.float32]

PAST = 0.8  # the weight of the past where the picture follows the motion
MISMATCH = 12.0  # grey levels between the frame and the one before, moved, at which that weight has fallen to 1/e
CUT = 0.45  # share of pixels that do not follow the motion, above which it was a cut


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
        if self._grey is None or self._past is None or self._grey.shape != grey.shape:
            self._grid = _grid(*grey.shape)
            steady = probability
        else:
            assert self._grid is not None
            where = self._grid + self._flow.calc(grey, self._grey, None)
            weight = _weight(grey, _moved(self._grey, where))
            steady = probability if weight is None else _blend(probability, _moved(self._past, where), weight)
        self._grey, self._past = grey, steady
        return steady


def _grid(height: int, width: int) -> Map:
    across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.dstack((across, down))


def _moved(picture: NDArray[np.generic], where: Map) -> NDArray[np.generic]:
    return np.asarray(cv2.remap(picture, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _weight(grey: Pixels, before: NDArray[np.generic]) -> Map | None:
    """How much the past counts, float32 [h, w] in 0..PAST; None after a cut."""
    apart = cv2.blur(cv2.absdiff(grey, before), (5, 5)).astype(np.float32)
    if float((apart > 2 * MISMATCH).mean()) > CUT:
        return None
    weight: Map = PAST * np.exp(-np.square(apart / MISMATCH))
    return weight


def _blend(now: Map, before: NDArray[np.generic], weight: Map) -> Map:
    blended: Map = now + weight * (before - now)
    return blended
