"""A segmentation as JSON: what `output=json` says of a photo, and of each frame of a clip."""

from __future__ import annotations

from typing import Any

from humanseg.segmentation import rle
from humanseg.segmentation.result import Segmentation, Summary


def as_document(segmentation: Segmentation, summary: Summary) -> dict[str, Any]:
    """The summary, and the mask as COCO run-length encoding. bounding_box: [x, y, width, height] in pixels."""
    box = summary.box
    return {
        "width": summary.width,
        "height": summary.height,
        "coverage": round(summary.coverage, 6),
        "person_found": box is not None,
        "confidence": round(summary.confidence, 4),
        "bounding_box": [box.x, box.y, box.width, box.height] if box else None,
        "threshold": segmentation.threshold,
        "mask": rle.encode(segmentation.mask),
    }
