"""Some frames of a clip, written down as photos with their masks, for whoever keeps what was sent."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2

from humanseg.segmentation.appearance import appearance_of
from humanseg.segmentation.calibration import Calibration
from humanseg.segmentation.picture import encode
from humanseg.segmentation.result import Segmentation
from humanseg.video.decode import Frame

EVERY = Fraction(1)  # second; more in a clip of more than MOST seconds, so that the frames are spread over all of it
MOST = 30  # frames of one clip
QUALITY = 95  # of their JPEG


@dataclass(frozen=True)
class Sampled:
    """A frame as it was written down. seconds: its time. The files are JPEG and PNG (0/255), both `width` x `height`.

    coverage, confidence: 0..1, as of a photo. appearance: see `humanseg.segmentation.appearance`.
    """

    seconds: float
    photo: Path
    mask: Path
    width: int
    height: int
    coverage: float
    confidence: float
    appearance: tuple[float, float, float]

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Sampled:
        """What `plain` gave."""
        files = {name: Path(values[name]) for name in ("photo", "mask")}
        return cls(**{**values, **files, "appearance": tuple(values["appearance"])})

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {**vars(self), "photo": str(self.photo), "mask": str(self.mask)}


class Sampler:
    """Takes the first frame of each second, at most `MOST` of a clip, into `folder`.

    seconds: how long the clip is; None where nobody knows. calibration: what the network's confidence means.
    """

    def __init__(self, folder: Path, seconds: float | None, calibration: Calibration) -> None:
        self.taken: list[Sampled] = []
        self._folder, self._calibration = folder, calibration
        self._every = max(EVERY, Fraction(seconds or 0) / MOST)
        self._due = Fraction(0)

    def __call__(self, frame: Frame, segmentation: Segmentation) -> None:
        """Look at the next frame of the clip."""
        number = len(self.taken)
        if number == MOST or frame.time < self._due:
            return
        self._due = (frame.time // self._every + 1) * self._every
        photo, mask = (self._folder / f"{number}.{ending}" for ending in ("jpg", "png"))
        as_jpeg = cv2.imencode(
            ".jpg", cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )
        photo.write_bytes(as_jpeg[1].tobytes())
        mask.write_bytes(encode(segmentation.mask, "png"))
        summary = segmentation.summary(self._calibration)
        self.taken.append(
            Sampled(
                seconds=float(frame.time),
                photo=photo,
                mask=mask,
                width=summary.width,
                height=summary.height,
                coverage=summary.coverage,
                confidence=summary.confidence,
                appearance=astuple(appearance_of(frame.pixels)),
            )
        )
