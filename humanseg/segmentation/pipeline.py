"""The way of a photo through the network: pixels -> frame -> probability -> mask at the photo's size.

The server, the library, training's measurements, golden predictions and benchmarks all call these functions, so
that what is measured is what is served.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation import mask as masks
from humanseg.segmentation.looks import look_closely
from humanseg.segmentation.photo import Pixels, to_frame
from humanseg.segmentation.result import Segmentation

Batch = NDArray[np.float32]
Run = Callable[[Batch], Batch]  # float32 [N, 3, H, W] in 0..1 to float32 [N, H, W] in 0..1


def preprocess(pixels: Pixels, size: int) -> NDArray[np.float32]:
    """`pixels`, uint8 [h, w, 3] RGB, to the network's frame: float32 [3, H, W] in 0..1, long side `size`."""
    return to_frame(pixels, size)


def postprocess(
    output: NDArray[np.float32],
    frame: NDArray[np.float32],
    width: int,
    height: int,
    *,
    threshold: float,
    keep: str = "all",
) -> Segmentation:
    """The network's output, float32 [H, W] in 0..1, for `frame`, float32 [3, H, W], to a mask of `width` x `height`.

    threshold: 0..1, open; a pixel above it is a person. keep: "all", or "largest" for the largest region alone.
    """
    return at_photo_size(masks.along_edges(output, frame), width, height, threshold=threshold, keep=keep)


def at_photo_size(
    probability_map: NDArray[np.float32], width: int, height: int, *, threshold: float, keep: str = "all"
) -> Segmentation:
    """A map of probabilities, float32 [h, w] in 0..1 with the photo's edges, to a mask of `width` x `height`."""
    probability = masks.to_photo_size(probability_map, width, height)
    # In place: of a large photo, one such picture less that every worker keeps memory for.
    mask = masks.binary_mask(probability, threshold, keep, out=probability)
    return Segmentation(probability_map, mask, threshold, keep)


def segment(
    run: Run, size: int, pixels: Pixels, *, threshold: float, keep: str = "all", quality: str = "fast"
) -> Segmentation:
    """Segment `pixels`, uint8 [H, W, 3] RGB, with the engine `run` whose frames have the long side `size`.

    quality: "fast" for one look, or "best" for up to four (`humanseg.segmentation.looks`).
    """
    height, width = pixels.shape[:2]
    if quality == "best":
        closely = look_closely(run, size, pixels, threshold)
        return at_photo_size(closely, width, height, threshold=threshold, keep=keep)
    frame = preprocess(pixels, size)
    return postprocess(run(frame[None])[0], frame, width, height, threshold=threshold, keep=keep)


def probability(run: Run, size: int, pixels: Pixels) -> Pixels:
    """What the engine makes of a whole photo, uint8 [H, W, 3]: uint8 [H, W], 255 = certainly a person."""
    height, width = pixels.shape[:2]
    frame = preprocess(pixels, size)
    return masks.to_photo_size(masks.along_edges(run(frame[None])[0], frame), width, height)
