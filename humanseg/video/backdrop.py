"""The background: a colour, the clip's own blurred background, a picture, or another clip."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from humanseg.segmentation.errors import PhotoError
from humanseg.segmentation.photo import Pixels, read_photo
from humanseg.video.decode import Frame, frames
from humanseg.video.errors import NotAClip
from humanseg.video.kinds import LONGEST_START, is_clip
from humanseg.video.probe import probe

# Maps a frame's time (seconds) and size (width, height) to the backdrop of `humanseg.segmentation.picture.draw`.
Backdrop = Callable[[Fraction, tuple[int, int]], "str | Pixels"]


def named_in(text: str) -> bool:
    """Whether `text` is a colour or "blur", not a file."""
    return text == "blur" or re.fullmatch(r"#[0-9a-fA-F]{6}", text) is not None


def backdrop(wanted: str) -> Backdrop:
    """Create the backdrop `wanted`: `#rrggbb`, "blur", or a file with a picture or a clip.

    A background clip plays in sync and loops.

    Raises:
        ClipError: the file is neither a picture nor a clip.
        OSError: it cannot be opened.
    """
    if named_in(wanted):
        return lambda time, size: wanted
    path = Path(wanted)
    with path.open("rb") as file:
        start = file.read(LONGEST_START)
    if is_clip(start) or start[:4] == b"GIF8":
        return _Running(path)
    try:
        picture = read_photo(path.read_bytes()).pixels
    except PhotoError as error:
        raise NotAClip(f"The background {path.name} is neither a picture nor a clip: {error}") from None
    return _Still(picture)


def still(wanted: str) -> Pixels:
    """The picture, or the first frame of the clip, in the file `wanted`: uint8 [h, w, 3]. Raises as `backdrop`."""
    made = backdrop(wanted)
    if isinstance(made, _Running):
        return made.first()
    assert isinstance(made, _Still)
    return made.picture


def covering(picture: Pixels, width: int, height: int) -> Pixels:
    """`picture`, uint8 [h, w, 3], scaled to cover `width` x `height` and cropped to the centre."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    across, down = max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = np.asarray(cv2.resize(picture, (across, down), interpolation=how), np.uint8)
    left, top = (across - width) // 2, (down - height) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])


class _Still:
    def __init__(self, picture: Pixels) -> None:
        self.picture = picture
        self._fitted: Pixels | None = None

    def __call__(self, time: Fraction, size: tuple[int, int]) -> Pixels:
        if self._fitted is None or self._fitted.shape[1::-1] != size:
            self._fitted = covering(self.picture, *size)
        return self._fitted


class _Running:
    def __init__(self, path: Path) -> None:
        self._info = probe(path)
        self._frames: Iterator[Frame] = iter(())
        self._now: Frame | None = None
        self._coming: Frame | None = None
        self._began = Fraction(0)  # start of the current loop

    def first(self) -> Pixels:
        return next(frames(self._info)).pixels

    def __call__(self, time: Fraction, size: tuple[int, int]) -> Pixels:
        if self._now is None:
            self._frames = frames(self._info)
            self._now, self._coming = next(self._frames), next(self._frames, None)
        while self._end() <= time - self._began:
            if self._coming is None:
                self._began += self._end()
                self._frames = frames(self._info)
                self._coming = next(self._frames)
            self._now, self._coming = self._coming, next(self._frames, None)
        return covering(self._now.pixels, *size)

    def _end(self) -> Fraction:
        assert self._now
        if self._coming is not None:
            return self._coming.time
        return self._now.time + max(self._now.duration, Fraction(1, 1000))
