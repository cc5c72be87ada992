"""Composes new scenes from cut-outs and backgrounds (copy-paste augmentation, Ghiasi et al. 2021).

It adds framings that street photos lack: busts at the lower edge, faces that fill the frame, groups, and small
distant figures, on photographed, blurred or plain backgrounds.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.training import augmentation
from humanseg.training.augmentation import Picked, Pixels

Draw = Callable[[], Picked]  # the next photo and mask to cut a person from


def photographed(random: np.random.Generator, photo: Picked, height: int, width: int) -> Picked:
    """A random crop of a photo and its mask, of the frame's size.

    A third of those without people are blurred like a shallow depth of field.
    """
    pixels, mask = photo
    scale = min(pixels.shape[0] / height, pixels.shape[1] / width) * random.uniform(0.4, 1.0)
    part_height, part_width = max(8, int(height * scale)), max(8, int(width * scale))
    top = int(random.integers(0, max(1, pixels.shape[0] - part_height + 1)))
    left = int(random.integers(0, max(1, pixels.shape[1] - part_width + 1)))
    part = slice(top, top + part_height), slice(left, left + part_width)
    out, label = augmentation.resize(pixels[part], height, width), augmentation.resize(mask[part], height, width)
    if random.random() < 0.35 and not mask.any():
        sigma = random.uniform(0.5, 4.0) * max(height, width) / 256
        out = cv2.GaussianBlur(out, (0, 0), sigma)  # type: ignore[assignment]
    return out, label


def plain(random: np.random.Generator, height: int, width: int) -> Pixels:
    """A plain wall: one colour, mostly pale and greyish, with a light gradient and some stains."""
    colour = np.clip(random.uniform(8, 245) + random.normal(0, 18, 3) * (1 + 2 * (random.random() < 0.2)), 0, 255)
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    light = (np.cos(angle) * rows / height + np.sin(angle) * columns / width) * random.uniform(0, 60)
    cells = int(random.integers(2, 9))
    stains = cv2.resize(random.normal(0, random.uniform(0, 14), (cells, cells)).astype(np.float32), (width, height))
    wall: Pixels = np.clip(colour + (light + stains)[..., None], 0, 255).astype(np.uint8)
    return wall


def _relight(random: np.random.Generator, pixels: Pixels, background: Pixels) -> Pixels:
    """Shift the cut-out's light and colour towards the background's; now and then as far as clothes in its colour."""
    share = random.uniform(0.0, 0.35) if random.random() < 0.85 else random.uniform(0.5, 1.0)
    shift = (background.mean(axis=(0, 1)) - pixels.mean(axis=(0, 1))) * share
    gain = random.uniform(0.8, 1.2)
    relit: Pixels = np.clip(pixels.astype(np.float32) * gain + shift, 0, 255).astype(np.uint8)
    return relit


def paste(random: np.random.Generator, canvas: Pixels, label: Pixels, person: Picked, crowd: int) -> Picked:
    """Place one person on the canvas; a bust on the lower edge, a full figure anywhere."""
    pixels, mask = person
    height, width = label.shape
    if random.random() < 0.5:
        mask = cv2.erode(mask, np.ones((3, 3), np.uint8))  # type: ignore[assignment]  # a drawn edge holds background
    portrait = np.count_nonzero(mask[-1] > 127) > 0.2 * mask.shape[1]  # already cut by the lower edge
    bust = portrait or random.random() < (0.75 if crowd == 1 else 0.5)
    box = (
        augmentation.head(random, mask, (0.15, 0.6))
        if bust and not portrait
        else augmentation.Box(0, 0, *mask.shape[::-1])
    )
    left, top, wide, tall = cv2.boundingRect((mask[box.slices] > 127).astype(np.uint8))
    if tall < 16 or wide < 8:
        return canvas, label
    rows = slice(box.top + top, box.top + top + tall)
    columns = slice(box.left + left, box.left + left + wide)
    most = 1.2 if crowd == 1 else 0.9
    target = random.uniform(0.45, most) if bust else np.exp(random.uniform(np.log(0.15), np.log(most)))
    scale = target * height / tall
    new_height, new_width = max(8, round(tall * scale)), max(4, round(wide * scale))
    if new_width > 2 * width:
        return canvas, label
    cutout = augmentation.resize(pixels[rows, columns], new_height, new_width)
    alpha = augmentation.resize(mask[rows, columns], new_height, new_width)
    if random.random() < 0.5:
        cutout, alpha = cutout[:, ::-1], alpha[:, ::-1]
    # A bust is cut off at the bottom, so its lower end must be at or below the frame's edge.
    y = height - new_height + (round(random.uniform(0, 0.15) * new_height) if bust else 0)
    if not bust:
        y = round(random.uniform(min(0, y), max(y, 1)))
    x = round(random.uniform(-0.3 * new_width, width - 0.7 * new_width))
    place, part = _overlap(y, x, new_height, new_width, height, width)
    if 0 in label[place].shape:
        return canvas, label
    _blend(random, canvas, place, cutout[part], alpha[part])
    label[place] = np.maximum(label[place], alpha[part])
    return canvas, label


def put_distractor(random: np.random.Generator, canvas: Pixels, label: Pixels, distractor: Picked) -> Picked:
    """Place a distractor anywhere on the canvas, at 15 to 110 % of its short side; it occludes people behind it."""
    pixels, alpha = distractor
    height, width = label.shape
    scale = np.exp(random.uniform(np.log(0.15), np.log(1.1))) * min(height, width) / max(alpha.shape)
    tall, wide = max(4, round(alpha.shape[0] * scale)), max(4, round(alpha.shape[1] * scale))
    cutout, alpha = augmentation.resize(pixels, tall, wide), augmentation.resize(alpha, tall, wide)
    y = round(random.uniform(-0.3 * tall, height - 0.7 * tall))
    x = round(random.uniform(-0.3 * wide, width - 0.7 * wide))
    place, part = _overlap(y, x, tall, wide, height, width)
    canvas, label = canvas.copy(), label.copy()
    share = _blend(random, canvas, place, cutout[part], alpha[part])
    label[place] = np.rint(label[place] * (1 - share)).astype(np.uint8)
    return canvas, label


Slices = tuple[slice, slice]


def _overlap(y: int, x: int, tall: int, wide: int, height: int, width: int) -> tuple[Slices, Slices]:
    """(region of the canvas, region of the cut-out) for a cut-out whose corner is at `y`, `x`."""
    y0, x0, y1, x1 = max(y, 0), max(x, 0), min(y + tall, height), min(x + wide, width)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))


def _blend(
    random: np.random.Generator, canvas: Pixels, place: Slices, cutout: Pixels, alpha: Pixels
) -> NDArray[np.float32]:
    """Blend the relit cut-out into the canvas, in place; returns its alpha there, 0..1."""
    share = alpha.astype(np.float32) / 255.0
    lit = _relight(random, np.ascontiguousarray(cutout), canvas)
    mixed = canvas[place] * (1 - share[..., None]) + lit * share[..., None]
    canvas[place] = np.rint(mixed).astype(np.uint8)
    return share


def scene(
    random: np.random.Generator,
    frame: augmentation.Shape,
    background: Picked | None,
    person: Draw,
    distractor: Picked | None = None,
) -> Picked:
    """A photo `[h, w, 3]` and mask `[h, w]` of the shape `frame`; `background` None means a wall.

    A `background` with people in it gives a group in which one hides another.
    A `distractor` is placed behind the people, or now and then before them.
    """
    height, width = frame
    canvas: Pixels
    label: Pixels
    if background is None:
        canvas, label = plain(random, height, width), np.zeros((height, width), np.uint8)
    else:
        canvas, label = photographed(random, background, height, width)
    before = distractor is not None and random.random() < 0.3
    if distractor is not None and not before:
        canvas, label = put_distractor(random, canvas, label, distractor)
    crowd = int(random.choice((1, 2, 3, 4, 6), p=(0.55, 0.2, 0.12, 0.08, 0.05)))
    for _ in range(crowd):
        canvas, label = paste(random, canvas, label, person(), crowd)
    if distractor is not None and before:
        canvas, label = put_distractor(random, canvas, label, distractor)
    return canvas, label
