"""Augmentation: crops, geometry and phone-like colours.

All functions take a numpy Generator as their only source of randomness, so that a sample is a function of its number.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Picked = tuple[Pixels, Pixels]
Shape = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Box:
    """Columns `left` to `right` and rows `top` to `bottom` of a photo, the ends excluded."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index a picture with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def _box(x: float, y: float, width: float, height: float, shape: tuple[int, ...]) -> Box:
    """The part inside the photo of a box centred at `x` with its top at `y`; at least 32 pixels a side."""
    left, right = max(0, round(x - width / 2)), min(shape[1], round(x + width / 2))
    top, bottom = max(0, round(y)), min(shape[0], round(y + height))
    if right - left < 32:
        left, right = max(0, min(left, shape[1] - 32)), min(shape[1], max(right, left + 32, 32))
    if bottom - top < 32:
        top, bottom = max(0, min(top, shape[0] - 32)), min(shape[0], max(bottom, top + 32, 32))
    return Box(left, top, right, bottom)


def whole(random: np.random.Generator, mask: Pixels) -> Box:
    """Nearly the whole photo, up to 12 % cut off each side."""
    height, width = mask.shape
    left, right, top, bottom = random.uniform(0, 0.12, 4) * (random.random(4) < 0.5)
    return Box(round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))


def anywhere(random: np.random.Generator, mask: Pixels) -> Box:
    """A random part: 20 to 100 % of the area, sides from 3:5 to 5:3."""
    height, width = mask.shape
    area = random.uniform(0.2, 1.0) * height * width
    aspect = np.exp(random.uniform(np.log(0.6), np.log(1.67)))
    part_width, part_height = min(width, np.sqrt(area * aspect)), min(height, np.sqrt(area / aspect))
    left, top = random.uniform(0, width - part_width), random.uniform(0, height - part_height)
    return _box(left + part_width / 2, top, part_width, part_height, mask.shape)


def head(random: np.random.Generator, mask: Pixels, share: tuple[float, float]) -> Box:
    """A portrait from a full-length photo: from above the head down to a `share` of the figure.

    Falls back to `anywhere` if the mask has no upright figure.
    """
    left, top, width, height = cv2.boundingRect((mask > 127).astype(np.uint8))
    if height < 64 or height < 1.2 * width:
        return anywhere(random, mask)
    columns = np.nonzero(mask[top : top + max(height // 8, 8)] > 127)[1]
    centre = float(columns.mean()) if columns.size else left + width / 2
    tall = random.uniform(*share) * height
    above = random.uniform(-0.08, 0.5) * tall
    aspect = np.exp(random.uniform(np.log(0.6), np.log(1.6)))
    wide = (tall + above) * aspect
    return _box(centre + random.normal(0, 0.12) * wide, top - above, wide, tall + above, mask.shape)


def choose_crop(random: np.random.Generator, mask: Pixels, whole_share: float) -> Box:
    """Choose a crop: the whole photo with probability `whole_share`.

    Of the rest, half are portraits, a fifth are faces that fill the frame, and the others are random crops.
    """
    dice = random.random()
    if dice < whole_share:
        return whole(random, mask)
    dice = (dice - whole_share) / (1 - whole_share)
    if dice < 0.5:
        return head(random, mask, (0.22, 0.65))
    if dice < 0.71:
        return head(random, mask, (0.13, 0.25))
    return anywhere(random, mask)


def resize(picture: Pixels, height: int, width: int) -> Pixels:
    """Resize as `humanseg.segmentation.frame.to_frame` does: area averaging to shrink, bilinear to grow."""
    how = cv2.INTER_AREA if height * width < picture.shape[0] * picture.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(picture, (width, height), interpolation=how)  # type: ignore[return-value]


def fitted(random: np.random.Generator, box: Box, photo: tuple[int, ...], frame: Shape) -> Box:
    """Adjust `box` to the aspect ratio of `frame` within 8 %: extended if the photo has room, else cropped."""
    height, width = box.bottom - box.top, box.right - box.left
    aspect = frame[1] / frame[0] * float(np.exp(random.uniform(-0.08, 0.08)))  # frames are slightly stretched, too
    width, left = _span(random, box.left, width, height * aspect, photo[1])
    height, top = _span(random, box.top, height, width / aspect, photo[0])
    width, left = _span(random, left, width, height * aspect, photo[1], cut=True)
    height, top = _span(random, top, height, width / aspect, photo[0], cut=True)
    return Box(left, top, left + width, top + height)


def _span(
    random: np.random.Generator, start: int, length: int, wanted: float, limit: int, *, cut: bool = False
) -> tuple[int, int]:
    """(length, start) of a span extended to `wanted` inside 0..`limit`, or shortened to it with `cut`."""
    new = max(1, min(limit, round(wanted)))
    if (new <= length) != cut:
        return length, start
    place = start + round(random.random() * (length - new))
    return new, min(max(0, place), limit - new)


def cut(pixels: Pixels, mask: Pixels, box: Box, frame: Shape) -> Picked:
    """Crop to `box` and scale to `frame` (height, width); photo `[h, w, 3]` and mask `[h, w]`."""
    return resize(pixels[box.slices], *frame), resize(mask[box.slices], *frame)


def turn(random: np.random.Generator, pixels: Pixels, mask: Pixels) -> Picked:
    """Mirror with probability 1/2; rotate with probability 1/3, like hand-held phones (sigma 7 degrees)."""
    if random.random() < 0.5:
        pixels, mask = pixels[:, ::-1], mask[:, ::-1]
    if random.random() < 0.35:
        height, width = mask.shape
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), random.normal(0, 7), random.uniform(1.0, 1.15))
        how: dict[str, Any] = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
        pixels = cv2.warpAffine(np.ascontiguousarray(pixels), matrix, (width, height), **how)  # type: ignore[assignment]
        mask = cv2.warpAffine(np.ascontiguousarray(mask), matrix, (width, height), **how)  # type: ignore[assignment]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(mask)


@lru_cache(1)
def _camera() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no network access at import
    import albumentations as a

    return a.Compose(
        [
            a.RandomBrightnessContrast((-0.25, 0.25), (-0.3, 0.3), p=0.6),
            a.HueSaturationValue(12, 35, 10, p=0.4),
            a.RGBShift(18, 18, 18, p=0.25),
            a.RandomGamma((60, 160), p=0.3),
            a.ToGray(p=0.05),
            a.OneOf([a.GaussianBlur((3, 7)), a.MotionBlur((3, 7)), a.Downscale(scale_range=(0.35, 0.8))], p=0.25),
            a.GaussNoise((0.01, 0.06), p=0.2, noise_scale_factor=0.5),
            a.ImageCompression(quality_range=(30, 90), p=0.4),
        ]
    )


def camera(random: np.random.Generator, pixels: Pixels) -> Pixels:
    """Phone-like light, colour, blur, noise and JPEG (Albumentations, Buslaev et al. 2020)."""
    pipeline = _camera()
    pipeline.set_random_seed(int(random.integers(2**31)))
    changed: Pixels = pipeline(image=pixels)["image"]
    return changed


def hard_light(random: np.random.Generator, pixels: Pixels, mask: Pixels) -> Pixels:
    """One or two kinds of difficult light: dusk, coloured lamps, haze, a vignette, backlight."""
    light = pixels.astype(np.float32) / 255
    for kind in random.permutation(len(_LIGHTS))[: 1 + (random.random() < 0.25)]:
        light = _LIGHTS[kind](random, light, mask).clip(0, 1)
    return np.rint(light * 255).astype(np.uint8)


Light = NDArray[Any]  # float32 [H, W, 3] in 0..1


def _dusk(random: np.random.Generator, light: Light, mask: Pixels) -> Light:
    """Dark, with sensor noise in the shadows."""
    light = light ** np.float32(random.uniform(1.3, 3.2)) * np.float32(random.uniform(0.25, 1.0))
    return light + random.normal(0, random.uniform(0.003, 0.03), light.shape).astype(np.float32)


def _lamps(random: np.random.Generator, light: Light, mask: Pixels) -> Light:
    """Coloured lamps."""
    return light * random.uniform(0.35, 1.2, 3).astype(np.float32)


def _haze(random: np.random.Generator, light: Light, mask: Pixels) -> Light:
    """Haze, or a poor lens: a quarter to two thirds of the contrast."""
    span = random.uniform(0.25, 0.7)
    return light * np.float32(span) + np.float32(random.uniform(0, 1 - span))


def _falloff(random: np.random.Generator, light: Light, mask: Pixels) -> Light:
    """A lamp or flash whose light falls off with the distance."""
    height, width = mask.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    far = np.hypot(rows / height - random.uniform(0.1, 0.9), columns / width - random.uniform(0.1, 0.9))
    fall = random.uniform(0.9, 1.3) / (1 + (far / random.uniform(0.3, 0.8)) ** 2)
    lit: Light = light * fall.astype(np.float32)[..., None]
    return lit


def _backlight(random: np.random.Generator, light: Light, mask: Pixels) -> Light:
    """People nearly black before a bright background."""
    share = cv2.GaussianBlur(mask, (0, 0), 1.0).astype(np.float32)[..., None] / 255
    behind = light ** np.float32(random.uniform(0.5, 0.9))
    before = light ** np.float32(random.uniform(1.2, 2.4)) * np.float32(random.uniform(0.2, 0.7))
    return behind * (1 - share) + before * share


_LIGHTS = (_dusk, _lamps, _haze, _falloff, _backlight)
