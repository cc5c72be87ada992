"""Metrics of a mask: IoU, boundary F, false coverage, and their bootstrap confidence intervals.

A worked example, one row of four pixels: predicted `1 1 0 0`, true `0 1 1 0`. One pixel is in both, three
are in either, so the IoU is 1/3.

>>> import numpy as np
>>> found, true = np.array([[1, 1, 0, 0]], bool), np.array([[0, 1, 1, 0]], bool)
>>> round(iou(found, true), 3)
0.333
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
TOLERANCE = 0.0075  # of the photo's diagonal: maximum distance of a matched predicted edge pixel from a true one


@dataclass(frozen=True)
class Score:
    """Counts and measures of one photo."""

    both: int  # pixels predicted and true
    either: int  # pixels predicted or true
    iou: float
    boundary_f: float
    coverage: float  # share of the photo that is predicted


def iou(predicted: Mask, true: Mask) -> float:
    """Intersection over union of two masks `[H, W]`; 1 when both are empty."""
    either = int(np.count_nonzero(predicted | true))
    return int(np.count_nonzero(predicted & true)) / either if either else 1.0


def edge(mask: Mask) -> Mask:
    """The pixels of the mask with a neighbour outside it (4-connected; the photo's border is not an edge)."""
    inside = cv2.erode(
        mask.astype(np.uint8),
        cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)),
        borderType=cv2.BORDER_REPLICATE,
    )
    rim: Mask = mask & (np.asarray(inside) == 0)
    return rim


def boundary_f(predicted: Mask, true: Mask, tolerance: float = TOLERANCE) -> float:
    """Harmonic mean of the shares of predicted edge pixels near a true edge, and the reverse.

    Near is within `tolerance` of the diagonal (Csurka et al., "What is a good evaluation measure for
    semantic segmentation?", 2013). 1 when neither mask has an edge, 0 when only one has.
    """
    edge_found, edge_true = edge(predicted), edge(true)
    if not edge_found.any() and not edge_true.any():
        return 1.0
    if not edge_found.any() or not edge_true.any():
        return 0.0
    reach = tolerance * float(np.hypot(predicted.shape[0], predicted.shape[1]))
    precision = float((_distance(edge_true)[edge_found] <= reach).mean())
    recall = float((_distance(edge_found)[edge_true] <= reach).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def score(predicted: Mask, true: Mask) -> Score:
    """All measures of a predicted mask `[H, W]` against the true one."""
    both, either = int(np.count_nonzero(predicted & true)), int(np.count_nonzero(predicted | true))
    return Score(both, either, both / either if either else 1.0, boundary_f(predicted, true), float(predicted.mean()))


def summary(scores: Sequence[Score]) -> dict[str, float]:
    """The metrics of a whole set: means over photos, and the IoU pooled over all pixels."""
    ious = np.array([item.iou for item in scores])
    return {
        "mean_iou": float(ious.mean()),
        "pooled_iou": pooled_iou(scores),
        "p10_iou": float(np.percentile(ious, 10)),
        "boundary_f": float(np.mean([item.boundary_f for item in scores])),
        "mean_coverage": float(np.mean([item.coverage for item in scores])),
        "share_over_1_percent": over_one_percent(scores),
    }


def pooled_iou(scores: Sequence[Score]) -> float:
    """Sum of the intersections over sum of the unions."""
    either = sum(item.either for item in scores)
    return sum(item.both for item in scores) / either if either else 1.0


def over_one_percent(scores: Sequence[Score]) -> float:
    """Share of photos with more than 1 % predicted pixels; without people in view all of them are false."""
    return float(np.mean([item.coverage > 0.01 for item in scores]))


def interval(
    scores: Sequence[Score], figure: Callable[[Sequence[Score]], float], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap confidence interval (percentile method, Efron 1979) of a metric of the set."""
    random = np.random.default_rng(seed)
    values = [figure([scores[index] for index in random.integers(0, len(scores), len(scores))]) for _ in range(draws)]
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def _distance(pixels: Mask) -> NDArray[np.float32]:
    """Distance in pixels from each place to the nearest of `pixels` (Felzenszwalb and Huttenlocher 2012)."""
    return cv2.distanceTransform((~pixels).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # type: ignore[return-value]
