"""Clips with known masks and motion: a person, cut out or drawn, moves over photographs without people.

The photos are NASA's of Eileen Collins (public domain) and scikit-image's of a man with a camera (CC0). The person is
cut out by the network's own answer to the still photo, and that cut-out is by definition the person. Two are drawn:
one shaded, which the network takes for a person, and one flat, of which it is unsure. Backgrounds are scikit-image's
(CC0 and public domain). Each frame gets noise of its own and a breath of exposure, as a camera's has: that is what
makes masks flicker. A seed draws the noise, and which background, how fast, from where, and which way round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (480, 360)
FRAMES = 40
NOISE = (4.0, 8.0)  # grey levels, standard deviation: at least, at most
BREATH = 0.04  # of the brightness, up and down
EDGE = np.ones((9, 9), np.uint8)  # what lies within 4 pixels of the person, such as a mask that is a little too wide,
# moves with the person and not with the background: it is an error of the mask, which the IoU counts, and no flicker

Pixels = NDArray[np.uint8]
Affine = NDArray[np.float32]  # [2, 3], from the cut-out's pixels to the frame's


@dataclass(frozen=True)
class Moment:
    """One frame. frame: uint8 [h, w, 3]. truth: bool [h, w]. back: where each pixel was, float32 [h, w, 2].

    known: bool [h, w], false where that place was hidden or outside in the frame before, or there was a cut.
    """

    frame: Pixels
    truth: NDArray[np.bool_]
    back: NDArray[np.float32]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """Where things are at each moment: the person, the background, a bar in front of both (x, or None).

    A seed changes `pace`, of 1 a frame; `shift`, pixels to the right; `turn`, by which backgrounds change places; and
    `mirrored`.
    """

    person: Callable[[float], tuple[float, float, float]]  # left, top, scale
    background: Callable[[float], int]
    bar: Callable[[float], float | None] = lambda index: None
    pace: float = 1.0
    shift: float = 0.0
    turn: int = 0
    mirrored: bool = False

    def varied(self, random: np.random.Generator) -> Plan:
        """The same scene in another way."""
        pace, shift, turn = random.uniform(0.6, 1.3), random.uniform(-30, 30), int(random.integers(3))
        return replace(self, pace=pace, shift=shift, turn=turn, mirrored=bool(random.integers(2)))


PLANS = {
    "still": Plan(lambda i: (120, 60, 0.6), lambda i: 0),
    "translation": Plan(lambda i: (40 + 4 * i, 60, 0.6), lambda i: 1),
    "zoom": Plan(lambda i: (120 - 2.2 * i, 60 - 2.0 * i, 0.55 * 1.012**i), lambda i: 2),
    "occlusion": Plan(lambda i: (110 + i, 60, 0.6), lambda i: 0, lambda i: 12.0 * i - 40),
    "cut": Plan(
        lambda i: (60 + i, 60, 0.6) if i < FRAMES // 2 else (220 - i, 90, 0.5), lambda i: 0 if i < FRAMES // 2 else 2
    ),
}


def backgrounds() -> list[Pixels]:
    """Photographs without people, at the size of a frame."""
    from skimage import data

    found = (data.coffee(), data.chelsea(), data.rocket())
    return [np.asarray(cv2.resize(one, SIZE, interpolation=cv2.INTER_AREA), np.uint8) for one in found]


def flat_person() -> tuple[Pixels, Pixels]:
    """A person drawn with plain ellipses: uint8 [512, 512, 3] and alpha uint8 [512, 512]."""
    picture, alpha = np.zeros((512, 512, 3), np.uint8), np.zeros((512, 512), np.uint8)
    parts = (
        ((256, 470), (170, 190), (52, 74, 120)),  # a jacket
        ((256, 290), (42, 60), (205, 160, 135)),  # the neck
        ((256, 172), (92, 112), (70, 48, 36)),  # hair
        ((256, 192), (74, 96), (224, 180, 152)),  # the face
        ((228, 178), (11, 6), (250, 250, 250)),
        ((284, 178), (11, 6), (250, 250, 250)),
        ((228, 178), (5, 5), (60, 40, 30)),
        ((284, 178), (5, 5), (60, 40, 30)),
        ((256, 212), (9, 16), (210, 160, 135)),
        ((256, 248), (24, 7), (176, 84, 84)),
    )
    for middle, axes, colour in parts:
        cv2.ellipse(picture, middle, axes, 0, 0, 360, colour, -1, cv2.LINE_AA)
        cv2.ellipse(alpha, middle, axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
    light = np.linspace(0.75, 1.1, 512)[None, :, None]
    return np.clip(picture * light, 0, 255).astype(np.uint8), alpha


def drawn_person() -> tuple[Pixels, Pixels]:
    """A person drawn with ellipses that are shaded like balls, with some grain: as `flat_person`."""
    picture, alpha = np.zeros((512, 512, 3), np.float32), np.zeros((512, 512), np.uint8)
    skin, hair, cloth, white, dark = (224, 180, 152), (70, 48, 36), (52, 74, 120), (245, 245, 245), (60, 40, 30)
    parts = (
        ((256, 520), (200, 230), cloth),
        ((256, 330), (120, 40), cloth),
        ((256, 290), (42, 66), (190, 145, 120)),  # the neck
        ((256, 168), (92, 112), hair),
        ((256, 192), (72, 94), skin),
        ((180, 195), (12, 22), (205, 160, 135)),  # ears
        ((332, 195), (12, 22), (205, 160, 135)),
        *(
            ((256 + side, 178), axes, colour)
            for side in (-28, 28)
            for axes, colour in (((13, 7), white), ((6, 6), dark))
        ),
        ((226, 160), (18, 4), hair),
        ((286, 160), (18, 4), hair),
        ((256, 208), (10, 20), (216, 168, 140)),  # the nose
        ((256, 246), (24, 8), (176, 84, 84)),
        ((256, 96), (70, 34), hair),
    )
    down, across = np.mgrid[:512, :512].astype(np.float32)
    for middle, axes, colour in parts:
        shape = np.zeros((512, 512), np.uint8)
        cv2.ellipse(shape, middle, axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
        x, y = (across - middle[0]) / axes[0], (down - middle[1]) / axes[1]
        towards = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))  # the viewer; the light comes from the upper left
        light = 0.45 + 0.55 * np.clip(0.82 * towards - 0.45 * x - 0.35 * y, 0, 1)
        share = shape[..., None] / np.float32(255)
        picture = picture * (1 - share) + 1.25 * light[..., None] * np.array(colour, np.float32) * share
        alpha = np.maximum(alpha, shape)
    grain = np.random.default_rng(0).normal(0, 11, (512, 512, 1)).astype(np.float32)
    picture += cv2.GaussianBlur(grain, (0, 0), 1.2)[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8), alpha


def clip(plan: Plan, person: Pixels, alpha: Pixels, seed: int = 0) -> Iterator[Moment]:
    """The frames of one scene, varied by the seed, with their ground truth."""
    random = np.random.default_rng(seed)
    plan, noise, phase = plan.varied(random), random.uniform(*NOISE), random.uniform(0, 6)
    behind = backgrounds()
    behind = behind[plan.turn :] + behind[: plan.turn]
    if plan.mirrored:
        person, alpha = np.ascontiguousarray(person[:, ::-1]), np.ascontiguousarray(alpha[:, ::-1])
    grid = np.dstack(np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))).astype(np.float32)
    before: tuple[Affine, NDArray[np.bool_], int, NDArray[np.bool_]] | None = (
        None  # place, layer, background, covered
    )
    for index in range(FRAMES):
        time = index * plan.pace
        left, top, scale = plan.person(time)
        left += plan.shift
        if plan.mirrored:
            left = SIZE[0] - left - scale * alpha.shape[1]
        place = np.array([[scale, 0, left], [0, scale, top]], np.float32)
        shape = cv2.warpAffine(alpha, place, SIZE, flags=cv2.INTER_AREA)
        share = shape[..., None] / 255
        picture = (
            share * cv2.warpAffine(person, place, SIZE, flags=cv2.INTER_AREA)
            + (1 - share) * behind[plan.background(time)]
        )
        covered = np.zeros(SIZE[::-1], bool)
        bar = plan.bar(time)
        if bar is not None:
            covered[:, max(0, int(bar)) : max(0, int(bar) + 40)] = True
            picture[covered] = (70, 60, 50)
        truth = (shape > 127) & ~covered
        layer = _grown(truth)
        picture *= 1 + BREATH * np.sin(index * 1.7 + phase)
        picture += random.normal(0, noise, picture.shape)
        back, known = grid.copy(), np.zeros(SIZE[::-1], bool)
        if before is not None and before[2] == plan.background(time):
            last, layer_before, _, hidden = before
            earlier = last[:, 2] + (grid - place[:, 2]) * (last[0, 0] / scale)
            back = np.where(layer[..., None], earlier, grid)
            layer_there = cv2.remap(layer_before.astype(np.uint8), back, None, cv2.INTER_NEAREST) > 0
            hidden_there = cv2.remap(hidden.astype(np.uint8), back, None, cv2.INTER_NEAREST) > 0
            inside = ((back >= 0) & (back <= np.array(SIZE) - 1)).all(axis=2)
            known = inside & (layer_there == layer) & ~_grown(covered) & ~hidden_there
        before = (place, layer, plan.background(time), _grown(covered))
        yield Moment(np.clip(picture, 0, 255).astype(np.uint8), truth, back.astype(np.float32), known)


def _grown(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(cv2.dilate(region.astype(np.uint8), EDGE), bool)


def flicker(now: NDArray[np.float32], before: NDArray[np.float32], moment: Moment) -> float:
    """Change of the alpha, float32 [h, w] in 0..1, that the true motion does not explain, by the person's size."""
    expected = cv2.remap(before, moment.back, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return float(np.abs(now - expected)[moment.known].sum() / max(1, moment.truth.sum()))
