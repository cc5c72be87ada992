"""Metrics by slice, for `humanseg evaluate`: a mean over a whole set hides where masks fail.

The slices are those of the gate (`humanseg.training.kinds`), and two more for reports only: JPEG quality and tilt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from humanseg.segmentation.photo import Pixels
from humanseg.training import metrics
from humanseg.training.facts import Facts
from humanseg.training.kinds import kinds_of
from humanseg.training.metrics import Mask, Score

ELONGATED = 1.5  # ratio of a mask's axes above which it has an orientation
# The sum of the luminance table of the JPEG standard (ITU T.81, table K.1), which corresponds to quality 50.
STANDARD_TABLE_SUM = 3688


@dataclass(frozen=True)
class Row:
    """Metrics of one slice, such as "light: dark": `mean_iou` with its 95 % confidence interval (low, high)."""

    kind: str
    photos: int
    mean_iou: float
    low: float
    high: float


def kinds(photo: Path, pixels: Pixels, true: Mask) -> dict[str, str]:
    """The slices of a photo, uint8 [H, W, 3] RGB, whose ground truth, bool [H, W], has a person."""
    quality, leaning = jpeg_quality(photo), tilt(true)
    kinds = kinds_of(pixels, true, Facts())
    if quality is not None:
        kinds["JPEG quality"] = "below 75" if quality < 75 else "75 to 92" if quality <= 92 else "above 92"
    if leaning is not None:
        kinds["tilt"] = "below 10°" if leaning < 10 else "10 to 35°" if leaning <= 35 else "above 35°"
    return kinds


def tilt(true: Mask) -> float | None:
    """Degrees, 0..90, between a mask's principal axis and the vertical; None without an orientation."""
    shape = cv2.moments(true.astype(np.uint8), binaryImage=True)
    spread, axes = np.linalg.eigh(np.array([[shape["mu02"], shape["mu11"]], [shape["mu11"], shape["mu20"]]]))
    if spread[1] < ELONGATED**2 * max(spread[0], 1e-9):
        return None
    down, across = np.abs(axes[:, 1])
    return float(np.degrees(np.arctan2(across, down)))


def jpeg_quality(photo: Path) -> float | None:
    """The quality, 1..100, of a JPEG file by its tables on libjpeg's scale; None for other files."""
    with Image.open(photo) as image:
        tables = getattr(image, "quantization", None)
    if not tables:
        return None
    percent = 100 * sum(tables[0]) / STANDARD_TABLE_SUM
    return float(np.clip((200 - percent) / 2 if percent <= 100 else 5000 / percent, 1, 100))


def table(photos: Iterable[tuple[dict[str, str], Score]]) -> list[Row]:
    """One row per slice, in order of first occurrence."""
    by_kind: dict[str, dict[str, list[Score]]] = {}
    for kinds, score in photos:
        for kind, name in kinds.items():
            by_kind.setdefault(kind, {}).setdefault(name, []).append(score)
    return [
        Row(f"{kind}: {name}", len(scores), _mean_iou(scores), *metrics.interval(scores, _mean_iou))
        for kind, names in by_kind.items()
        for name, scores in sorted(names.items())
    ]


def _mean_iou(scores: Sequence[Score]) -> float:
    return sum(score.iou for score in scores) / len(scores)
