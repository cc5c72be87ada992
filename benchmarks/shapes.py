"""The input shapes of the measurements: ours keep the aspect ratio, the peers' examples use squares."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.frame import frame_shape
from humanseg.segmentation.spec import Spec


def typical_frames(spec: Spec, count: int = 1) -> NDArray[np.float32]:
    """Grey frames of photos of 4:3: float32 [count, 3, H, W]."""
    return np.full((count, 3, *frame_shape(3, 4, spec)), 0.5, np.float32)


def square_side(spec: Spec) -> int:
    """The side of the square with about as many pixels as a 4:3 photo's frame; down, in the peers' favour.

    >>> square_side(Spec((384, 384)))
    320
    """
    step = spec.multiple
    return max(step, int(math.sqrt(math.prod(frame_shape(3, 4, spec))) / step) * step)
