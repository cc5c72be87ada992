"""Test-time augmentation for `quality=best`: at most four forward passes for a better mask.

If somebody fills the photo: the mean of the predictions for it and its mirror image, which is better than either
(Krizhevsky et al. 2012). Smaller people have few pixels in the network's frame: each half of the photo is segmented
in its own frame (SAHI, Akyon et al. 2022, tiles it), then a crop around the largest group of small people. A photo
that shows nobody gets no closer passes: they would find people in clothes and animals.
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

# Chosen on held-out photos of COCO and on scenes that were composed of held-out photos (model card).
SMALL = 0.7  # of the photo's width and height: larger people gain nothing from a closer pass
HALF = 0.6  # of the photo's long side; the halves overlap
MARGIN = 0.15  # around a region, of its longer side
LEAST = 0.0005  # of the photo's area: smaller specks are ignored
BLEND = 0.65  # weight of a closer pass; the rest is that of the passes before
FADE = 0.1  # of a crop's longer side: width of the blend at its border
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
        run: the engine, called with one or two frames, at most four in all.
        spec: the network's.
        pixels: the photo, uint8 [H, W, 3] RGB.
        threshold: 0..1, above which a pixel belongs to a region; the one stored with the weights.

    Returns:
        float32 [h, w] in 0..1, with edges refined along the photo's. Finer than the frame, up to FINEST times as
        long, if there are only small people.
    """
    (whole,) = _predictions(run, spec, [pixels])
    extent = _extent(whole, threshold)
    if not 0 < extent <= SMALL:
        (mirrored,) = _predictions(run, spec, [np.ascontiguousarray(pixels[:, ::-1])])
        return (whole + mirrored[:, ::-1]) * np.float32(0.5)
    height, width = pixels.shape[:2]
    scale = max(spec.long_side, min(FINEST * spec.long_side, max(height, width))) / max(height, width)
    finer = max(1, round(height * scale)), max(1, round(width * scale))
    map_, near = _resized(whole, *finer), _halves(run, spec, pixels, finer)
    map_ += np.float32(BLEND) * (near - map_)
    if part := small_people(map_, threshold):
        (prediction,) = _predictions(run, spec, [np.ascontiguousarray(pixels[part.slices(height, width)])])
        _lay(map_, part.slices(*finer), prediction)
    return map_


def _predictions(run: Run, spec: Spec, photos: list[Pixels]) -> list[Map]:
    """The network's output for each photo, uint8 [H, W, 3], in one batch: their frames have the same shape."""
    frames = [to_frame(photo, spec) for photo in photos]
    answers = run(np.stack(frames))
    return [
        photo_map(answer, frame, spec, *photo.shape[:2])
        for photo, frame, answer in zip(photos, frames, answers, strict=True)
    ]


def _halves(run: Run, spec: Spec, pixels: Pixels, size: tuple[int, int]) -> Map:
    """Both halves of the photo along its long side, faded over where they overlap: float32 [h, w] of `size`."""
    lying = pixels.shape[1] >= pixels.shape[0]
    shown = pixels if lying else pixels.transpose(1, 0, 2)  # [long, short] becomes [short, long]
    length = max(1, round(HALF * shown.shape[1]))
    cuts = [shown[:, :length], shown[:, shown.shape[1] - length :]]
    cuts = [np.ascontiguousarray(cut if lying else cut.transpose(1, 0, 2)) for cut in cuts]
    first, second = (answer if lying else answer.T for answer in _predictions(run, spec, cuts))
    high, wide = size if lying else size[::-1]
    length = max(1, round(HALF * wide))
    place = (np.arange(wide, dtype=np.float32) + np.float32(0.5)) / np.float32(wide)
    share = np.clip((HALF - place) / np.float32(2 * HALF - 1), 0, 1)  # of the first half
    joined = np.zeros((high, wide), np.float32)
    joined[:, :length] = share[:length] * _resized(first, high, length)
    joined[:, wide - length :] += (1 - share[wide - length :]) * _resized(second, high, length)
    return joined if lying else joined.T


def _extent(probability_map: Map, threshold: float) -> float:
    """The larger of the relative width and height of the largest region, 0..1; 0 if there is none."""
    height, width = probability_map.shape
    above = (probability_map > threshold).astype(np.uint8)
    _, _, facts, _ = cv2.connectedComponentsWithStats(above)
    if len(facts) == 1:
        return 0.0
    largest = facts[1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())]
    return float(max(largest[cv2.CC_STAT_WIDTH] / width, largest[cv2.CC_STAT_HEIGHT] / height))


def small_people(probability_map: Map, threshold: float) -> Part | None:
    """A rectangle around small people that covers at most SMALL of either side; None if there are none.

    Regions above `threshold` of a map float32 [h, w], with a margin, are merged if they overlap, and then the nearest
    ones as long as the result is small; of what is left it is the one with the most people.
    """
    parts = _apart(_regions(probability_map, threshold))
    while len(parts) > 1:
        one, other = min(combinations(parts, 2), key=lambda pair: pair[0].joined(pair[1]).extent)
        if one.joined(other).extent > SMALL:
            break
        parts = [part for part in parts if part not in (one, other)] + [one.joined(other)]
    return max((part for part in parts if part.extent <= SMALL), key=lambda part: part.weight, default=None)


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
