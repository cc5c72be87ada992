"""The result for one photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation import mask as masks
from humanseg.segmentation.calibration import UNCHANGED, Calibration
from humanseg.segmentation.mask import BoundingBox
from humanseg.segmentation.photo import Pixels


@dataclass(frozen=True)
class Summary:
    """A segmentation's metrics.

    width, height: of the photo, upright, in pixels. coverage: share of person pixels, 0..1.
    confidence: 0..1, the expected IoU of the mask. box: bounding box of all person pixels, or None.
    """

    width: int
    height: int
    coverage: float
    confidence: float
    box: BoundingBox | None


@dataclass(frozen=True)
class Segmentation:
    """The person in one photo.

    probability_map: float32 [h, w] in 0..1, at the network's size (finer with test-time augmentation), with edges
    refined along the photo's; 0 where a region was left out (`humanseg.segmentation.regions`).
    mask: uint8 [H, W], 0 or 255, at the photo's size.
    threshold: 0..1, the probability above which the mask is 255.
    """

    probability_map: NDArray[np.float32]
    mask: Pixels
    threshold: float

    @property
    def probability(self) -> Pixels:
        """uint8 [H, W], 255 = certainly a person. Computed on each access: most pictures need only the mask."""
        height, width = self.mask.shape
        return masks.to_photo_size(self.probability_map, width, height)

    @property
    def alpha(self) -> Pixels:
        """Straight alpha with a soft edge, uint8 [H, W]; see `humanseg.segmentation.mask.soft_alpha`."""
        return masks.soft_alpha(self.probability, self.threshold)

    def summary(self, calibration: Calibration = UNCHANGED) -> Summary:
        """Coverage, confidence and bounding box.

        calibration: maps the raw confidence (`humanseg.segmentation.mask.confidence`) to the expected IoU; not
        applied if nobody was found.
        """
        box = masks.bounding_box(self.mask)
        confidence = masks.confidence(self.probability_map, self.threshold)
        height, width = self.mask.shape
        return Summary(
            width=width,
            height=height,
            coverage=masks.coverage(self.mask),
            confidence=calibration(confidence) if box else confidence,
            box=box,
        )
