"""Test-time augmentation for `quality=best`: at most four forward passes for a better mask.

The network segments the photo and its mirror image; the mean of both is better than either (Krizhevsky et al. 2012).
Then it segments crops around small regions, each in its own frame, where a small person has several times the pixels
(SAHI, Akyon et al. 2022, tiles the whole photo instead).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.frame import photo_map, to_frame
from humanseg.segmentation.photo import Pixels
from humanseg.segmentation.spec import Spec

# Chosen on 60 scenes that were composed of held-out photos of ccp/train and no_people (model card).
PARTS = 2  # regions that get their own pass; a single one is also mirrored
SMALL = 0.7  # of the photo's width and height: larger regions gain nothing from a second pass
MARGIN = 0.15  # around a region, of its longer side
LEAST = 0.0005  # of the photo's area: smaller specks are ignored
BLEND = 0.65  # weight of the second pass; the rest is the first one's
FADE = 0.1  # of a part's longer side: width of the blend at its border
FINEST = 3  # times the frame's long side: the maximum size of the finer map

Map = NDArray[np.float32]
Run = Callable[[NDArray[np.float32]], Map]  # float32 [N, 3, H, W] in 0..1 to float32 [N, H, W] in 0..1


@dataclass(frozen=True)
class Part:
    """A rectangle of the photo, relative to its width and height: 0 <= left < right <= 1, same for top and bottom.

    weight: the share of the photo's area that the people in it cover.
    """

    left: float
    top: float
    right: float
    bottom: float
    weight: float

    @property
    def extent(self) -> float:
        """The larger of its relative width and height."""
        return max(self.right - self.left, self.bottom - self.top)

    def joined(self, other: Part) -> Part:
        """The smallest rectangle that contains both."""
        return Part(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
            self.weight + other.weight,
        )

    def touches(self, other: Part) -> bool:
        """Whether both overlap."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def slices(self, height: int, width: int) -> tuple[slice, slice]:
        """Its rows and columns in a picture of `height` x `width`, at least one of each."""
        top, left = min(int(self.top * height), height - 1), min(int(self.left * width), width - 1)
        bottom, right = (max(round(self.bottom * height), top + 1), max(round(self.right * width), left + 1))
        return slice(top, min(bottom, height)), slice(left, min(right, width))


def predict_augmented(run: Run, spec: Spec, pixels: Pixels, threshold: float) -> Map:
    """The probability of a person by test-time augmentation.

    Args:
        run: the engine, called two or three times, with at most four frames.
        spec: the network's.
        pixels: the photo, uint8 [H, W, 3] RGB.
        threshold: 0..1, above which a pixel belongs to a region; the one stored with the weights.

    Returns:
        float32 [h, w] in 0..1, with edges refined along the photo's. Of the frame's size if there were no small
        regions, else finer, up to FINEST times as long.
    """
    whole = _mean_predictions(run, spec, [pixels], mirrored=True)[0]
    parts = small_parts(whole, threshold)
    if not parts:
        return whole
    height, width = pixels.shape[:2]
    places = [part.slices(height, width) for part in parts]
    shown = [np.ascontiguousarray(pixels[place]) for place in places]
    predictions = _mean_predictions(run, spec, shown, mirrored=len(parts) < PARTS)
    size = spec.long_side
    scale = max(size, min(FINEST * size, max(height, width))) / max(height, width)
    finer = max(1, round(height * scale)), max(1, round(width * scale))
    map_ = _resized(whole, *finer)
    for part, prediction in zip(parts, predictions, strict=True):
        _lay(map_, part.slices(*finer), prediction)
    return map_


def _mean_predictions(run: Run, spec: Spec, photos: list[Pixels], *, mirrored: bool) -> list[Map]:
    """The network's output for each photo, uint8 [H, W, 3]; with `mirrored`, averaged with its mirror image's.

    Frames of one shape run as one batch.
    """
    answers: list[Map] = []
    pairs = [(photo, to_frame(photo, spec)) for photo in photos]
    alike = len({frame.shape for _, frame in pairs}) == 1
    for group in [pairs] if alike else [[pair] for pair in pairs]:
        frames = [frame for _, frame in group]
        shown = frames + [np.ascontiguousarray(frame[:, :, ::-1]) for frame in frames] if mirrored else frames
        found = run(np.stack(shown))
        if mirrored:
            found = (found[: len(group)] + found[len(group) :, :, ::-1]) * np.float32(0.5)
        for answer, (photo, frame) in zip(found, group, strict=True):
            answers.append(photo_map(answer, frame, spec, *photo.shape[:2]))
    return answers


def small_parts(probability_map: Map, threshold: float) -> list[Part]:
    """Find small people: at most PARTS rectangles that cover at most SMALL of either side.

    Regions above `threshold` of a map float32 [h, w], with a margin. Overlapping ones are merged. If there are more
    than PARTS, they are merged as long as the result is small, and the largest of the rest are used.
    """
    parts = _apart(_regions(probability_map, threshold))
    while len(parts) > PARTS:
        one, other = min(combinations(parts, 2), key=lambda pair: pair[0].joined(pair[1]).extent)
        if one.joined(other).extent > SMALL:
            break
        parts = [part for part in parts if part not in (one, other)] + [one.joined(other)]
    small = [part for part in parts if part.extent <= SMALL]
    return sorted(small, key=lambda part: -part.weight)[:PARTS]


def _regions(probability_map: Map, threshold: float) -> Iterable[Part]:
    """The 8-connected regions, each with its margin; of a crowd the 32 largest."""
    height, width = probability_map.shape
    above = (probability_map > threshold).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    for x, y, wide, tall, area in sorted(stats[1:].tolist(), key=lambda row: -row[cv2.CC_STAT_AREA])[:32]:
        if area < LEAST * above.size:
            return
        margin = MARGIN * max(wide, tall)
        yield Part(
            max(0.0, (x - margin) / width),
            max(0.0, (y - margin) / height),
            min(1.0, (x + wide + margin) / width),
            min(1.0, (y + tall + margin) / height),
            area / above.size,
        )


def _apart(parts: Iterable[Part]) -> list[Part]:
    """Merge overlapping rectangles until none overlap."""
    apart: list[Part] = []
    for part in parts:
        while touching := next((other for other in apart if part.touches(other)), None):
            apart.remove(touching)
            part = part.joined(touching)
        apart.append(part)
    return apart


def _lay(map_: Map, place: tuple[slice, slice], prediction: Map) -> None:
    """Blend the pass over a part into `map_`, in place, fading in from the sides that are not the photo's border."""
    rows, columns = place
    under = map_[place]
    fade = max(1.0, FADE * max(under.shape))
    down = _ramp(under.shape[0], fade, open_start=rows.start > 0, open_end=rows.stop < map_.shape[0])
    across = _ramp(under.shape[1], fade, open_start=columns.start > 0, open_end=columns.stop < map_.shape[1])
    weight = np.float32(BLEND) * np.minimum(down[:, None], across[None, :])
    under += weight * (_resized(prediction, *under.shape) - under)
    np.clip(under, 0, 1, out=under)  # rounding


def _ramp(length: int, fade: float, *, open_start: bool, open_end: bool) -> NDArray[np.float32]:
    """Weights float32 [length]: 1, and rising from 0 within `fade` pixels of each open end."""
    steps = (np.arange(length, dtype=np.float32) + np.float32(0.5)) / np.float32(fade)
    ramp = np.ones(length, np.float32)
    if open_start:
        ramp = np.minimum(ramp, steps)
    if open_end:
        ramp = np.minimum(ramp, steps[::-1])
    return ramp


def _resized(map_: Map, height: int, width: int) -> Map:
    how = cv2.INTER_AREA if height < map_.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(map_, (width, height), interpolation=how), np.float32)
