"""Kinds of photo: the groups by which a mean is taken apart, so that no group pays for the others.

Each photo has one value of each kind: light, contrast, sharpness, the photo's size, how many people it shows and how
much of it they take, and what the archive knows (label, week).
"""

from __future__ import annotations

import bisect

import cv2
import numpy as np

from humanseg.segmentation.appearance import appearance_of
from humanseg.segmentation.photo import Pixels
from humanseg.training.facts import Facts
from humanseg.training.metrics import Mask

LEAST_PERSON = 0.002  # of the photo: smaller regions of a mask are crumbs and no people


def kinds_of(pixels: Pixels, true: Mask, facts: Facts, people: int | None = None) -> dict[str, str]:
    """The kinds of a photo, uint8 [H, W, 3], with its true mask, bool [H, W].

    people: how many were annotated; without it, the mask's separate regions are counted.
    """
    look = appearance_of(pixels)
    number = regions(true) if people is None else people
    found = {
        "light": _step(look.brightness, (0.25, 0.65), ("dark", "middle", "bright")),
        "contrast": _step(look.contrast, (0.12,), ("flat", "normal")),
        "sharpness": _step(look.sharpness, (0.08,), ("blurred", "sharp")),
        "size": _step(max(pixels.shape[:2]), (800, 2000), ("under 800 px", "800 to 2000 px", "over 2000 px")),
        "people": _step(number, (1, 2, 3), ("nobody", "one", "two", "three and more")),
        "person size": _step(float(true.mean()), (0.05, 0.3), ("under 5 %", "5 to 30 %", "over 30 %")),
    }
    if facts.label:
        found["label"] = facts.label
    if facts.week:
        found["week"] = facts.week
    return found


def regions(mask: Mask) -> int:
    """How many separate regions of at least LEAST_PERSON of the photo a mask, bool [H, W], has."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return int((stats[1:count, cv2.CC_STAT_AREA] >= LEAST_PERSON * mask.size).sum())


def _step(value: float, limits: tuple[float, ...], names: tuple[str, ...]) -> str:
    return names[bisect.bisect_right(limits, value)]
