"""Slices: groups of photos that are measured separately, so that a mean hides no regression.

Each photo has one value per slice variable: light, contrast, sharpness, size, number and size of people, and the
archive's metadata (label, week).
"""

from __future__ import annotations

import bisect

import cv2
import numpy as np

from humanseg.segmentation.appearance import appearance_of
from humanseg.segmentation.photo import Pixels
from humanseg.training.facts import Facts
from humanseg.training.metrics import Mask

LEAST_PERSON = 0.002  # of the photo: smaller regions of a mask are noise


def kinds_of(pixels: Pixels, true: Mask, facts: Facts, people: int | None = None) -> dict[str, str]:
    """The slices of a photo, uint8 [H, W, 3], with its true mask, bool [H, W].

    people: the annotated number; without it, the mask's separate regions are counted.
    """
    look = appearance_of(pixels)
    number = regions(true) if people is None else people
    kinds = {
        "light": _step(look.brightness, (0.25, 0.65), ("dark", "middle", "bright")),
        "contrast": _step(look.contrast, (0.12,), ("flat", "normal")),
        "sharpness": _step(look.sharpness, (0.08,), ("blurred", "sharp")),
        "size": _step(max(pixels.shape[:2]), (800, 2000), ("under 800 px", "800 to 2000 px", "over 2000 px")),
        "people": _step(number, (1, 2, 3), ("nobody", "one", "two", "three and more")),
        "person size": _step(float(true.mean()), (0.05, 0.3), ("under 5 %", "5 to 30 %", "over 30 %")),
    }
    if facts.label:
        kinds["label"] = facts.label
    if facts.week:
        kinds["week"] = facts.week
    return kinds


def regions(mask: Mask) -> int:
    """The number of separate regions of at least LEAST_PERSON of the photo in a mask, bool [H, W]."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return int((stats[1:count, cv2.CC_STAT_AREA] >= LEAST_PERSON * mask.size).sum())


def _step(value: float, limits: tuple[float, ...], names: tuple[str, ...]) -> str:
    return names[bisect.bisect_right(limits, value)]
