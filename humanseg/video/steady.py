"""Temporal smoothing of masks: each frame's probability is averaged with the previous ones along the motion.

The motion and the weight of the past are computed at the network's size, and scaled up for a finer probability
(quality=best). The motion is dense optical flow between two frames (DIS: Kroeger et al., "Fast Optical Flow using
Dense Inverse Search", 2016). At object boundaries the flow is inaccurate, and a mask's edge is such a boundary. The
edge moves with the person: around a person the mean motion of the person replaces the flow. The previous probability
is warped along this motion. Where the picture does not follow (disocclusion, something passes in front) the past has
a lower weight; where the network is certain, too; after a cut none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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

    def __call__(self, probability: Map, frame: Pixels) -> Map:
        """Smooth one frame's probability.

        Args:
            probability: float32 [H, W] in 0..1.
            frame: uint8 [h, w, 3] RGB, of the network's size.

        Returns:
            float32 [H, W] in 0..1. The first frame, a frame of another size, and the first one after a cut are
            returned as they are.
        """
        grey = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)
        steady, past = probability, self._past
        if (
            self._grey is not None
            and past is not None
            and (self._grey.shape, past.shape) == (grey.shape, steady.shape)
        ):
            flow = self._flow.calc(grey, self._grey, None)  # type: ignore[call-overload]
            before = _Moving(_in_light_of(self._grey, grey), _resized(past, grey.shape))
            small = _resized(probability, grey.shape)
            trace = _trace(small, grey.astype(np.float32), before, *cv2.split(flow))
            steady = probability if trace is None else trace.blended(probability, past)
        self._grey, self._past = grey, steady
        return steady


@dataclass(frozen=True)
class _Moving:
    """The previous frame in grey levels, and its smoothed probability: float32 [h, w] each."""

    grey: Map
    probability: Map

    def warped(self, across: Map, down: Map) -> _Moving:
        """Both, moved: each pixel comes from as far `across` and `down` as these say, in pixels."""
        return _Moving(_warped(self.grey, across, down), _warped(self.probability, across, down))


@dataclass(frozen=True)
class _Trace:
    """Where each pixel was (`across`, `down`, in pixels), and the weight of its past, 0..1: float32 [h, w] each."""

    across: Map
    down: Map
    weight: Map

    def blended(self, probability: Map, past: Map) -> Map:
        """The probability, averaged with the past one: float32 [H, W] each."""
        (height, width), (small_height, small_width) = probability.shape, self.weight.shape
        across = _resized(self.across, probability.shape) * np.float32(width / small_width)
        down = _resized(self.down, probability.shape) * np.float32(height / small_height)
        moved = _warped(past, across, down)
        return np.asarray(probability + _resized(self.weight, probability.shape) * (moved - probability), np.float32)


def _trace(probability: Map, now: Map, before: _Moving, across: Map, down: Map) -> _Trace | None:
    """Correct the flow (`across`, `down`) around a person, and weight the past; None after a cut.

    now: the frame in grey levels. All are float32 [h, w].
    """
    moved = before.warped(across, down)
    mismatch = np.abs(_mean(now - moved.grey, WINDOW))
    if cv2.countNonZero(cv2.inRange(mismatch, 2 * MISMATCH, np.inf)) > CUT * mismatch.size:
        return None
    both = np.square(np.clip(np.minimum(probability, moved.probability) * 2 - 1, 0, 1))
    person = both * _follows(mismatch) + np.float32(1e-6)
    share = _mean(person, AROUND)
    near = np.minimum(share * np.float32(1 / NEAR), 1)
    across = across + near * (_mean(across * person, AROUND) / share - across)
    down = down + near * (_mean(down * person, AROUND) / share - down)
    # At the person's edge the background does not follow the person's motion, and need not.
    weight = np.maximum(probability, np.float32(0.02))
    apart = (now - _warped(before.grey, across, down)) * weight
    beside = np.abs(_mean(apart, WINDOW) / _mean(weight, WINDOW))
    certain = np.square(np.square(2 * probability - 1))
    return _Trace(across, down, PAST * _follows(np.where(near > 0.5, beside, mismatch)) * (1 - SURE * certain))


@lru_cache(maxsize=4)
def _grid(height: int, width: int) -> tuple[Map, Map]:
    across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return across, down


def _warped(values: Map, across: Map, down: Map) -> Map:
    columns, rows = _grid(*values.shape)
    border = cv2.BORDER_REPLICATE
    return np.asarray(
        cv2.remap(values, across + columns, down + rows, cv2.INTER_LINEAR, borderMode=border), np.float32
    )


def _resized(values: Map, shape: tuple[int, ...]) -> Map:
    if values.shape == shape:
        return values
    how = cv2.INTER_AREA if shape[0] < values.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(values, shape[::-1], interpolation=how), np.float32)


def _mean(values: Map, window: tuple[int, int]) -> Map:
    return np.asarray(cv2.blur(values, window), np.float32)


def _follows(mismatch: Map) -> Map:
    """1 where the picture follows the motion, falling to 0."""
    return np.asarray(cv2.exp(mismatch * mismatch * np.float32(-1 / MISMATCH**2)), np.float32)


def _in_light_of(before: Pixels, now: Pixels) -> Map:
    """The previous frame at the mean brightness of the current one: a light that goes on is not a cut."""
    return before.astype(np.float32) * np.float32(max(1.0, float(now.mean())) / max(1.0, float(before.mean())))
