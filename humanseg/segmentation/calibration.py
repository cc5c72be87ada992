"""Calibration of the confidence: maps the network's raw score to the expected IoU.

The map is fitted on held-out photos (`humanseg.training.calibrate`) by isotonic regression (Zadrozny and Elkan 2002),
which only assumes that more confidence means more IoU. It is piecewise linear, and is stored in the metadata of the
weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Knot = tuple[float, float]  # raw confidence and the corresponding IoU; both 0..1


@dataclass(frozen=True)
class Calibration:
    """knots: at least two, increasing in both numbers; linear in between."""

    knots: tuple[Knot, ...]

    def __post_init__(self) -> None:
        rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(self.knots))
        inside = all(0 <= number <= 1 for knot in self.knots for number in knot)
        if len(self.knots) < 2 or not rising or not inside:
            raise ValueError(f"a calibration needs two or more increasing knots in 0..1: {self.text()[:200]!r}")

    def __call__(self, confidence: float) -> float:
        """The expected IoU, 0..1, of a mask with this raw confidence."""
        scores, ious = zip(*self.knots, strict=True)
        return float(np.interp(confidence, scores, ious))

    def text(self) -> str:
        """The form in the metadata: "0:0 0.7:0.31 1:0.97"."""
        return " ".join(f"{score:g}:{iou:g}" for score, iou in self.knots)

    @classmethod
    def from_text(cls, text: str) -> Calibration:
        """The reverse of `text`. Raises ValueError."""
        pairs = [part.split(":") for part in text.split()]
        return cls(tuple((float(score), float(iou)) for score, iou in pairs))


UNCHANGED = Calibration(((0.0, 0.0), (1.0, 1.0)))
