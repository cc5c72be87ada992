"""The segmentation pipeline: pixels -> frame -> probability -> mask at the photo's size.

The server, the library, evaluation, golden predictions and benchmarks all call these functions, so that they measure
exactly what is served.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation import mask as masks
from humanseg.segmentation.augmented import predict_augmented
from humanseg.segmentation.frame import Batch, photo_map, to_frame
from humanseg.segmentation.photo import Pixels
from humanseg.segmentation.regions import MAIN, keep_regions
from humanseg.segmentation.result import Segmentation
from humanseg.segmentation.spec import Spec

Run = Callable[[Batch], Batch]  # float32 [N, 3, H, W] in 0..1 to float32 [N, H, W] in 0..1


def preprocess(pixels: Pixels, spec: Spec) -> NDArray[np.float32]:
    """Convert `pixels`, uint8 [h, w, 3] RGB, to the network's frame: float32 [3, H, W] in 0..1, see `Spec`."""
    return to_frame(pixels, spec)


def postprocess(
    output: NDArray[np.float32],
    frame: NDArray[np.float32],
    spec: Spec,
    width: int,
    height: int,
    *,
    threshold: float,
    keep: str = MAIN,
) -> Segmentation:
    """Convert the engine's output, float32 [H, W], for `frame`, float32 [3, H, W], to a `width` x `height` mask.

    threshold: 0..1 exclusive; pixels above it are person. keep: see `humanseg.segmentation.regions`.
    """
    probability_map = photo_map(output, frame, spec, height, width)
    return at_photo_size(probability_map, width, height, threshold=threshold, keep=keep)


def at_photo_size(
    probability_map: NDArray[np.float32], width: int, height: int, *, threshold: float, keep: str = MAIN
) -> Segmentation:
    """Convert a refined probability map, float32 [h, w] in 0..1, to a mask of `width` x `height`."""
    kept = keep_regions(probability_map, threshold, keep)
    probability = masks.to_photo_size(kept, width, height)
    # In place: saves a full-size copy of a large photo per worker.
    mask = masks.binary_mask(probability, threshold, out=probability)
    return Segmentation(kept, mask, threshold)


def segment(
    run: Run, spec: Spec, pixels: Pixels, *, threshold: float | None = None, keep: str = MAIN, quality: str = "fast"
) -> Segmentation:
    """Segment `pixels`, uint8 [H, W, 3] RGB, with the engine `run` of a network with `spec`.

    threshold: 0..1 exclusive; None uses the spec's. keep: see `humanseg.segmentation.regions`.
    quality: "fast" for one pass, or "best" for test-time augmentation (`humanseg.segmentation.augmented`).
    """
    height, width = pixels.shape[:2]
    limit = spec.threshold if threshold is None else threshold
    if quality == "best":
        augmented = predict_augmented(run, spec, pixels, limit)
        return at_photo_size(augmented, width, height, threshold=limit, keep=keep)
    frame = preprocess(pixels, spec)
    return postprocess(run(frame[None])[0], frame, spec, width, height, threshold=limit, keep=keep)


def probability(
    run: Run, spec: Spec, pixels: Pixels, *, quality: str = "fast", threshold: float | None = None
) -> Pixels:
    """The probability for a whole photo, uint8 [H, W, 3]: uint8 [H, W], 255 = certainly a person.

    threshold: for quality "best", above which a region gets a closer look; None uses the spec's.
    """
    height, width = pixels.shape[:2]
    if quality == "best":
        augmented = predict_augmented(run, spec, pixels, spec.threshold if threshold is None else threshold)
        return masks.to_photo_size(augmented, width, height)
    frame = preprocess(pixels, spec)
    return masks.to_photo_size(photo_map(run(frame[None])[0], frame, spec, height, width), width, height)
