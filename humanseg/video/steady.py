"""Temporal smoothing of masks: each frame's probability is averaged with the previous ones along the motion.

The motion is dense optical flow between two network-sized frames (DIS: Kroeger et al., "Fast Optical Flow using
Dense Inverse Search", 2016). At object boundaries the flow is inaccurate, and a mask's edge is such a boundary. The
edge moves with the person: around a person the mean motion of the person replaces the flow. The previous probability
is warped along this motion. Where the picture does not follow (disocclusion, something passes in front) the past has
a lower weight; where the network is certain, too; after a cut none.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.photo import Pixels

Map = NDArray[np.float32]

PAST = 0.85  # the weight of the past where the picture follows the motion and the network is uncertain
SURE = 0.5  # reduction of that weight where the network is certain: a person may come or go without a cut
MISMATCH = 10.0  # difference in grey levels from the warped previous frame at which that weight falls to 1/e
CUT = 0.35  # share of pixels that do not follow the motion, above which it is a cut
WINDOW = (5, 5)  # pixels over which the two frames are compared
AROUND = (15, 15)  # pixels over which a person's motion is averaged; it extends so far beyond the edge
NEAR = 0.05  # share of such a window that must be person


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
            before = np.dstack((_in_light_of(self._grey, grey), self._past))
            steady = _blended(probability, grey, before, np.asarray(flow, np.float32), self._grid)
        self._grey, self._past = grey, steady
        return steady


def _blended(probability: Map, grey: Pixels, before: Map, flow: Map, grid: Map) -> Map:
    """The probability with its past. before: [h, w, 2], the frame before in grey levels, and what was said of it."""
    now = grey.astype(np.float32)
    moved = _moved(before, grid + flow)
    apart = np.abs(_mean(now - moved[..., 0], WINDOW))
    if float((apart > 2 * MISMATCH).mean()) > CUT:
        return probability
    person = np.square(np.clip(np.minimum(probability, moved[..., 1]) * 2 - 1, 0, 1)) * _follows(apart) + 1e-6
    around = _mean(np.dstack((flow * person[..., None], person)), AROUND)
    share = around[..., 2:]
    near = np.clip(share / NEAR, 0, 1)
    moved = _moved(before, grid + flow + near * (around[..., :2] / share - flow))
    # Beside its edge the background does not follow the person's motion, and need not.
    weight = np.maximum(probability, 0.02)
    beside = _mean(np.dstack(((now - moved[..., 0]) * weight, weight)), WINDOW)
    apart = np.where(near[..., 0] > 0.5, np.abs(beside[..., 0] / beside[..., 1]), apart)
    past = PAST * _follows(apart) * (1 - SURE * np.square(np.square(2 * probability - 1)))
    return np.asarray(probability + past * (moved[..., 1] - probability), np.float32)


def _grid(height: int, width: int) -> Map:
    across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.dstack((across, down))


def _moved(picture: Map, where: Map) -> Map:
    at = np.asarray(where, np.float32)
    return np.asarray(cv2.remap(picture, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)  # type: ignore[call-overload]


def _mean(values: NDArray[Any], window: tuple[int, int]) -> Map:
    return np.asarray(cv2.blur(values.astype(np.float32, copy=False), window), np.float32)


def _follows(apart: Map) -> Map:
    """1 where the picture follows the motion, falling to 0."""
    return np.asarray(np.exp(-np.square(apart / np.float32(MISMATCH))), np.float32)


def _in_light_of(before: Pixels, now: Pixels) -> Map:
    """The frame before, as bright on the whole as the one now: a light that goes on is no cut."""
    return before.astype(np.float32) * np.float32(max(1.0, float(now.mean())) / max(1.0, float(before.mean())))
