"""The shapes in which the network is measured: ours take the photo's own, the peers' own examples squares."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.photo import FRAME_STEP, frame_shape


def typical_frames(size: int, count: int = 1) -> NDArray[np.float32]:
    """Grey frames of photos of 4:3: float32 [count, 3, H, W], the long side `size`."""
    return np.full((count, 3, *frame_shape(3, 4, size)), 0.5, np.float32)


def square_side(size: int) -> int:
    """The side of the square with about as many pixels as a 4:3 photo's frame; down, in the peers' favour.

    >>> square_side(384)
    320
    """
    return max(FRAME_STEP, int(math.sqrt(math.prod(frame_shape(3, 4, size))) / FRAME_STEP) * FRAME_STEP)
