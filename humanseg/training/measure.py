"""Segments photos through the serving pipeline and compares the masks with the ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.graph import Graph
from humanseg.segmentation.models import reference
from humanseg.segmentation.photo import read_photo
from humanseg.segmentation.pipeline import segment
from humanseg.segmentation.weights import Weights
from humanseg.training.metrics import Score, score
from humanseg.training.samples import Sample

Engine = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # [N, 3, H, W] in 0..1 -> probability [N, H, W]


@dataclass(frozen=True)
class Result:
    """A measured photo. `predicted` and `true` are masks bool `[H, W]` at the photo's own size.

    confidence: as served, 0..1.
    """

    photo: Path
    pixels: NDArray[np.uint8]
    predicted: NDArray[np.bool_]
    true: NDArray[np.bool_]
    score: Score
    confidence: float

    @property
    def iou(self) -> float:
        """Intersection over union, 0..1."""
        return self.score.iou


def measure_samples(
    weights: Weights | Graph,
    samples: Iterable[Sample],
    threshold: float | None = None,
    engine: Engine | None = None,
    quality: str = "fast",
) -> list[Result]:
    """Measure the samples one by one; `threshold` defaults to the weights' own."""
    engine = engine or reference(weights)
    results = []
    for sample in samples:
        photo = read_photo(sample.photo.read_bytes())
        segmentation = segment(engine, weights.spec, photo.pixels, threshold=threshold, quality=quality)
        predicted, true = segmentation.mask > 0, sample.read()[1] > 127
        confidence = segmentation.summary(weights.spec.calibration).confidence
        results.append(Result(sample.photo, photo.pixels, predicted, true, score(predicted, true), confidence))
    return results
