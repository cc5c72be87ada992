"""Reliability of the confidence: bins, calibration error, a plot, and the fitted calibration.

A pair is (confidence, IoU) of one photo with a detected person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.calibration import Calibration, Knot

Pair = tuple[float, float]
EDGES = (0.0, 0.5, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 1.0)  # of the bins: most masks are good
LEAST = 15  # minimum number of photos per knot of the calibration
SIDE, MARGIN = 420, 40  # pixels of the plot


@dataclass(frozen=True)
class Bin:
    """The photos whose confidence is in `low`..`high`: their number, and both means."""

    low: float
    high: float
    photos: int
    confidence: float
    iou: float


def bins(pairs: Sequence[Pair]) -> list[Bin]:
    """The non-empty bins, lowest first."""
    confidences, ious = np.array(pairs, np.float64).reshape(-1, 2).T
    place = np.clip(np.searchsorted(EDGES, confidences, side="right") - 1, 0, len(EDGES) - 2)
    return [
        Bin(
            EDGES[at],
            EDGES[at + 1],
            int((place == at).sum()),
            float(confidences[place == at].mean()),
            float(ious[place == at].mean()),
        )
        for at in range(len(EDGES) - 1)
        if (place == at).any()
    ]


def calibration_error(pairs: Sequence[Pair]) -> float:
    """Expected calibration error (Naeini et al. 2015): mean distance of confidence and IoU over the bins."""
    groups = bins(pairs)
    total = sum(item.photos for item in groups)
    return sum(item.photos * abs(item.confidence - item.iou) for item in groups) / total if total else 0.0


def learn(pairs: Sequence[Pair]) -> Calibration:
    """Fit the calibration: isotonic regression on means of LEAST photos or more.

    Raises ValueError with fewer than two times LEAST pairs.
    """
    from scipy.optimize import isotonic_regression  # comes with scikit-image

    if len(pairs) < 2 * LEAST:
        raise ValueError(f"{len(pairs)} photos are too few to fit a calibration; {2 * LEAST} are needed")
    ordered = np.array(sorted(pairs), np.float64)
    groups = np.array_split(ordered, max(2, min(12, len(ordered) // LEAST)))
    confidences = np.array([group[:, 0].mean() for group in groups])
    fitted = isotonic_regression([group[:, 1].mean() for group in groups], weights=[len(group) for group in groups]).x
    knots: list[Knot] = [(0.0, 0.0)]
    for x, y in zip(confidences.round(4).tolist(), np.clip(fitted, 0, 1).round(4).tolist(), strict=True):
        if x > knots[-1][0]:
            knots.append((x, max(y, knots[-1][1])))
    # Above the most confident group the line continues towards 1.
    if knots[-1][0] < 1:
        knots.append((1.0, round(min(1.0, knots[-1][1] + 1 - knots[-1][0]), 4)))
    return Calibration(tuple(knots))


def plot(series: dict[str, Sequence[Pair]], path: Path) -> None:
    """A PNG with one plot per series: photos as dots, bins as a line, and the ideal diagonal."""
    squares = [_square(name, pairs) for name, pairs in series.items() if pairs]
    if squares:
        cv2.imwrite(str(path), np.hstack(squares))


def _square(name: str, pairs: Sequence[Pair]) -> NDArray[np.uint8]:
    full = SIDE + 2 * MARGIN
    picture = np.full((full, full, 3), 255, np.uint8)

    def place(pair: Pair) -> tuple[int, int]:
        return MARGIN + round(pair[0] * SIDE), full - MARGIN - round(pair[1] * SIDE)

    cv2.rectangle(picture, place((0, 1)), place((1, 0)), (120, 120, 120), 1)
    cv2.line(picture, place((0, 0)), place((1, 1)), (190, 190, 190), 1, cv2.LINE_AA)
    for pair in pairs:
        cv2.circle(picture, place(pair), 2, (235, 190, 140), -1, cv2.LINE_AA)
    means = [place((item.confidence, item.iou)) for item in bins(pairs)]
    cv2.polylines(picture, [np.array(means, np.int32)], False, (170, 60, 20), 2, cv2.LINE_AA)
    for mean in means:
        cv2.circle(picture, mean, 4, (170, 60, 20), -1, cv2.LINE_AA)
    text = f"{name}: {len(pairs)} photos, error {calibration_error(pairs):.3f}"
    for words, where in ((text, (MARGIN, MARGIN - 14)), ("x: confidence, y: IoU, 0 to 1", (MARGIN, full - 14))):
        cv2.putText(picture, words, where, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return picture
