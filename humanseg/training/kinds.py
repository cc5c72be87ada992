"""What kind of photo it is, from what can be measured in the photo and its mask: a table of figures by kind.

A mean over a whole set hides where masks fail. Each property below sorts the photos into a few classes; the figures
of a class are those of its photos, over all measured sets that show people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from humanseg.training import metrics
from humanseg.training.metrics import Score

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]

SHARPNESS_SIDE = 512  # pixels: long side at which sharpness is measured, so that it does not depend on the size
REGION = 0.02  # of the mask's area: smaller regions are no person of their own
ELONGATED = 1.5  # ratio of a mask's axes from which on it has a direction
# The luminance table of the JPEG standard (ITU T.81, table K.1), which quality 50 stands for; its sum is enough.
STANDARD_TABLE_SUM = 3688


@dataclass(frozen=True)
class Facts:
    """Measured in one photo.

    light: mean luminance, 0..255. size: share of the photo that is person, 0..1. people: separate regions of the
    mask. sharpness: variance of the Laplacian of luminance at a long side of 512. jpeg_quality: as libjpeg counts it,
    None for other formats. tilt: degrees between the mask's long axis and upright, 0..90; None where it is as wide as
    it is high.
    """

    light: float
    size: float
    people: int
    sharpness: float
    jpeg_quality: float | None
    tilt: float | None


@dataclass(frozen=True)
class Row:
    """Figures of one class: `mean_iou` with its 95 % interval (low, high)."""

    kind: str
    photos: int
    mean_iou: float
    low: float
    high: float


def facts(photo: Path, pixels: Pixels, true: Mask) -> Facts:
    """Measure a photo, uint8 [H, W, 3] RGB, whose drawn mask, bool [H, W], shows somebody."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    scale = SHARPNESS_SIDE / max(grey.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    small = cv2.resize(grey, (width, height), interpolation=how)
    return Facts(
        light=float(grey.mean()),
        size=float(true.mean()),
        people=regions(true),
        sharpness=float(cv2.Laplacian(small, cv2.CV_32F).var()),
        jpeg_quality=jpeg_quality(photo),
        tilt=tilt(true),
    )


def regions(true: Mask) -> int:
    """Separate regions of a mask, specks left out: as many people as stand apart."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(true.astype(np.uint8), connectivity=8)
    return int((stats[1:, cv2.CC_STAT_AREA] >= REGION * np.count_nonzero(true)).sum())


def tilt(true: Mask) -> float | None:
    """Degrees between the long axis of a mask (its principal component) and upright; None where it has none."""
    rows, columns = np.nonzero(true)
    if rows.size < 2:
        return None
    spread, axes = np.linalg.eigh(np.cov(np.stack((rows, columns)).astype(np.float64)))
    if spread[1] < ELONGATED**2 * max(spread[0], 1e-9):
        return None
    down, across = np.abs(axes[:, 1])
    return float(np.degrees(np.arctan2(across, down)))


def jpeg_quality(photo: Path) -> float | None:
    """The quality, 1..100, that libjpeg's tables for it stand for; None where the file is no JPEG."""
    with Image.open(photo) as image:
        tables = getattr(image, "quantization", None)
    if not tables:
        return None
    percent = 100 * sum(tables[0]) / STANDARD_TABLE_SUM
    return float(np.clip((200 - percent) / 2 if percent <= 100 else 5000 / percent, 1, 100))


def classes(found: Facts) -> tuple[str, ...]:
    """The class of a photo in each property, such as "light: dark"."""
    quality, leaning = found.jpeg_quality, found.tilt
    return (
        "light: " + _class(found.light, (60, "dark, mean below 60"), (170, "60 to 170"), "bright, above 170"),
        "size: " + _class(found.size, (0.05, "below 5 % of the photo"), (0.2, "5 to 20 %"), "above 20 %"),
        "people apart: " + _class(found.people, (2, "one"), (3, "two"), "three or more"),
        "sharpness: " + _class(found.sharpness, (100, "soft"), (1000, "middling"), "sharp"),
        "JPEG: "
        + ("no JPEG" if quality is None else _class(quality, (75, "quality below 75"), (92, "75 to 92"), "above 92")),
        "tilt: "
        + ("no long axis" if leaning is None else _class(leaning, (10, "upright"), (35, "10 to 35°"), "more")),
    )


def table(photos: Iterable[tuple[Facts, Score]]) -> list[Row]:
    """The rows of all classes that hold a photo, in the order of `classes`."""
    by_class: dict[str, list[Score]] = {}
    for found, score in photos:
        for name in classes(found):
            by_class.setdefault(name, []).append(score)
    order = {prefix: index for index, prefix in enumerate(("light", "size", "people", "sharpness", "JPEG", "tilt"))}
    return [
        Row(name, len(scores), _mean_iou(scores), *metrics.interval(scores, _mean_iou))
        for name, scores in sorted(
            by_class.items(), key=lambda item: (order[item[0].split(":")[0].split()[0]], item[0])
        )
    ]


def _mean_iou(scores: Sequence[Score]) -> float:
    return sum(score.iou for score in scores) / len(scores)


def _class(value: float, *bounds: tuple[float, str] | str) -> str:
    """The name of the first bound that `value` is below; the last is a name alone."""
    return next(
        bound if isinstance(bound, str) else bound[1]
        for bound in bounds
        if isinstance(bound, str) or value < bound[0]
    )
