"""Which regions are people, and which people belong in the mask: those the photo is about, all of them, or one.

It is decided at the network's size: there are a hundred times fewer pixels than in a large photo, and mask, alpha,
confidence and probability agree about who is in.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

KEEP = ("main", "all", "largest")
MAIN = KEEP[0]

# Shares of the largest region's area, below which somebody is a passer-by; the model card says how they were chosen.
NEAR_SHARE = 0.12
FAR_SHARE = 0.4  # who ends higher up in the photo stands farther away; a child beside an adult does not
HIGHER = 0.2  # of the largest region's height

Map = NDArray[np.float32]
Region = NDArray[np.bool_]


def keep_regions(probability: Map, threshold: float, keep: str, before: Map | None = None) -> Map:
    """The probability without the regions that `keep` leaves out, which become 0: float32 [h, w] in 0..1.

    probability: float32 [h, w] in 0..1. Regions are 8-connected and above `threshold`, 0..1 exclusive; a pixel below
    it belongs to the nearest region.
    keep: "main" for `main_regions`, "largest" for the largest region, "all" for everything.
    before: what this function returned for the frame before, in a clip.
    """
    if keep == "all":
        return probability
    person = probability > threshold
    known = before > threshold if before is not None and before.shape == probability.shape else None
    belongs = largest_region(person) if keep == "largest" else main_regions(person, NEAR_SHARE, FAR_SHARE, known)
    others = person & ~belongs
    if not others.any():
        return probability
    away = (~person).view(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(away, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_CCOMP)
    nearest = np.asarray(labels, np.int32)  # the number of the region nearest to each pixel
    left_out = np.zeros(int(nearest.max()) + 1, bool)
    left_out[nearest[others]] = True
    return np.where(left_out.take(nearest), np.float32(0), probability)


def sure_regions(probability: Map, threshold: float, peak: float) -> Map:
    """The probability, float32 [h, w] in 0..1, without regions that are nowhere as probable as `peak`: 0 there.

    Regions are 8-connected and above `threshold`. A network is sure of some part of nearly every person, seldom of
    an animal that it takes for one. This is hysteresis thresholding (Canny, "A Computational Approach to Edge
    Detection", 1986).
    """
    if peak <= threshold:
        return probability
    count, found = cv2.connectedComponents((probability > threshold).view(np.uint8))
    labels = np.asarray(found, np.int32)
    sure = np.zeros(count, bool)
    sure[labels[probability >= peak]] = True
    sure[0] = True  # what is below the threshold
    return probability if sure.all() else np.where(sure.take(labels), probability, np.float32(0))


def largest_region(person: Region) -> Region:
    """Only the largest 8-connected region of `person`, bool [H, W]; an empty one stays empty."""
    found = _regions(person)
    if found is None:
        return person
    labels, facts, _ = found
    largest = 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())
    return np.asarray(labels == largest)


def main_regions(person: Region, near: float, far: float, known: Region | None = None) -> Region:
    """`person`, bool [H, W], without passers-by: regions smaller than a share, 0..1, of the largest one's area.

    The share is `near`; for a region whose lower end is higher than the largest one's by more than HIGHER of its
    height it is `far`. A small region whose centre is inside the bounding box of a large one stays: it is probably a
    part of that person, such as a hand behind a table. In a clip, `known`, bool [H, W], is what was kept of the frame
    before: a region that overlaps it needs half the share, so that nobody near the limit comes and goes (hysteresis).
    """
    found = _regions(person)
    if found is None:
        return person
    labels, facts, centres = found
    areas, boxes = facts[1:, cv2.CC_STAT_AREA], facts[1:, :4].astype(np.int32)
    ends = boxes[:, 1] + boxes[:, 3]
    largest = int(areas.argmax())
    least = np.where(ends < ends[largest] - HIGHER * boxes[largest, 3], far, near) * areas[largest]
    if known is not None:
        seen = np.unique(labels[known])
        least[seen[seen > 0] - 1] *= 0.5
    large = areas >= least
    columns, rows = centres[1:].astype(int).T
    part = _covered(boxes[large], person.shape)[rows, columns]
    return np.asarray(np.concatenate(([False], large | part)).take(labels))


def _regions(person: Region) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]] | None:
    """Labels, statistics and centres of the regions, as from OpenCV; None if there are fewer than two.

    Most photos show one person: finding that out takes a tenth of the statistics' time, and this algorithm takes half
    of the default's.
    """
    pixels = person.view(np.uint8)
    if cv2.connectedComponents(pixels)[0] <= 2:  # one label is the background's
        return None
    _, labels, facts, centres = cv2.connectedComponentsWithStatsWithAlgorithm(pixels, 8, cv2.CV_32S, cv2.CCL_BBDT)
    return np.asarray(labels, np.int32), np.asarray(facts, np.int32), np.asarray(centres, np.float64)


def _covered(boxes: NDArray[np.int32], shape: tuple[int, ...]) -> Region:
    """The pixels, bool [H, W] of `shape`, that are in any of the boxes, [N, 4]: left, top, width, height."""
    covered = np.zeros(shape, bool)
    for left, top, wide, tall in boxes.tolist():
        covered[top : top + tall, left : left + wide] = True
    return covered
