"""A confidence that keeps its word: what the network says of its mask, to the IoU that masks of its kind had.

The map from one to the other is learned on photos that were held out of training (`humanseg.training.calibrate`), by
isotonic regression (Zadrozny and Elkan 2002): it only knows that more confidence means more IoU. It is a line through
some knots, and is kept in the metadata of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Knot = tuple[float, float]  # what the network says, and the IoU that it meant; both 0..1


@dataclass(frozen=True)
class Calibration:
    """knots: rising in both numbers, at least two; in between the line is straight."""

    knots: tuple[Knot, ...]

    def __post_init__(self) -> None:
        rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(self.knots))
        inside = all(0 <= number <= 1 for knot in self.knots for number in knot)
        if len(self.knots) < 2 or not rising or not inside:
            raise ValueError(f"a calibration needs two or more knots in 0..1, rising: {self.text()[:200]!r}")

    def __call__(self, confidence: float) -> float:
        """The expected IoU, 0..1, of a mask whose raw confidence this is."""
        said, meant = zip(*self.knots, strict=True)
        return float(np.interp(confidence, said, meant))

    def text(self) -> str:
        """As the metadata hold it: "0:0 0.7:0.31 1:0.97"."""
        return " ".join(f"{said:g}:{meant:g}" for said, meant in self.knots)

    @classmethod
    def from_text(cls, text: str) -> Calibration:
        """The reverse of `text`. Raises ValueError."""
        pairs = [part.split(":") for part in text.split()]
        return cls(tuple((float(said), float(meant)) for said, meant in pairs))


UNCHANGED = Calibration(((0.0, 0.0), (1.0, 1.0)))
