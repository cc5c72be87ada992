"""The endless stream of training samples: sample number n is a function of (seed, n) only.

A resumed run therefore gets exactly the same samples, and several machines can divide the numbers among them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from humanseg.segmentation.frame import frame_shape
from humanseg.segmentation.spec import Spec
from humanseg.training import augmentation, compose
from humanseg.training.augmentation import Picked, Pixels
from humanseg.training.samples import Sample
from humanseg.training.settings import Settings

Pool = tuple[list[Sample], float]  # samples of one source, and the source's weight

DISTRACTORS_IN_EMPTY = 0.5  # share of the photos without people that get distractors
QUARTER_TURNS = 0.05  # share of the samples that are rotated by 90 degrees
GROUPS_IN_SCENES = 0.2  # share of the composed scenes that start from a photo with people
WALLS_IN_SCENES = 0.2  # share of those before a wall
DISTRACTORS_IN_SCENES = 0.3  # share of the composed scenes with a distractor behind or before the people


@dataclass(frozen=True)
class Pools:
    """The sources of samples.

    people: with masks. empty: photos without people, also used as backgrounds. distractors: cut-outs of
    animals, vehicles and the like.
    """

    people: list[Pool]
    empty: list[Pool]
    distractors: list[Pool] = field(default_factory=list)

    @property
    def samples(self) -> list[Sample]:
        """All of them."""
        return [sample for pool, _ in (*self.people, *self.empty, *self.distractors) for sample in pool]


# (height, width) relative to the frame's long side, and its frequency among batches: the frames of 2:3, 3:4, square,
# 4:3 and 3:2 photos.
FRAMES = (((3, 2), 0.34), ((4, 3), 0.26), ((1, 1), 0.2), ((3, 4), 0.12), ((2, 3), 0.08))


@dataclass(frozen=True)
class Shown:
    """One sample. `seen` is the augmented `clean`; both uint8 `[H, W, 3]`, `mask` uint8 `[H, W]`.

    taught: the teacher's share of the target, 0..1.
    """

    seen: Pixels
    clean: Pixels
    mask: Pixels
    taught: float


class Stream(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Samples, numbered from `start`; a batch has one shape.

    Each one has the network's and the teacher's input, both float32 `[3, H, W]` in 0..1, its mask float32
    `[1, H, W]` in 0..1, and the teacher's share of the target, float32 `[1, 1, 1]`.
    """

    def __init__(self, settings: Settings, pools: Pools, start: int = 0) -> None:
        self.settings, self.pools, self.start = settings, pools, start
        cv2.setNumThreads(0)

    def __len__(self) -> int:
        return max(0, self.settings.steps * self.settings.batch_size - self.start)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        shown = self.picture(self.start + index)
        label = torch.from_numpy(shown.mask).unsqueeze(0).float().div_(255)
        return _tensor(shown.seen), _tensor(shown.clean), label, torch.tensor(shown.taught).reshape(1, 1, 1)

    def frame(self, number: int) -> augmentation.Shape:
        """The shape that the batch of sample `number` has."""
        first = number - number % self.settings.batch_size
        if self.settings.augment == "none":
            mask = self._plain(first)[1]
            side = self.settings.size
            return frame_shape(mask.shape[0], mask.shape[1], Spec((side, side)))
        random = np.random.default_rng((self.settings.seed, 1, first))
        tall, wide = FRAMES[int(random.choice(len(FRAMES), p=[share for _, share in FRAMES]))][0]
        step = self.settings.size / max(tall, wide)
        return round(tall * step / 32) * 32, round(wide * step / 32) * 32

    def picture(self, number: int) -> Shown:
        """The sample of this number."""
        settings = self.settings
        random = np.random.default_rng((settings.seed, number))
        frame = self.frame(number)
        if settings.augment == "none":
            pixels, mask = self._plain(number)
            pixels, mask = augmentation.cut(pixels, mask, augmentation.Box(0, 0, mask.shape[1], mask.shape[0]), frame)
            return Shown(pixels, pixels, mask, 0.0)
        quarters = int(random.choice((1, 3))) if random.random() < QUARTER_TURNS else 0
        if quarters:  # a lying person, or a photo without an orientation tag
            frame = frame[::-1]
        pixels, mask, taught = self._view(random, frame)
        pixels, mask = augmentation.turn(random, np.rot90(pixels, quarters), np.rot90(mask, quarters))
        seen = augmentation.hard_light(random, pixels, mask) if random.random() < settings.relight else pixels
        return Shown(augmentation.camera(random, seen), pixels, mask, taught)

    def _plain(self, number: int) -> Picked:
        pool = [sample for samples, _ in self.pools.people for sample in samples]
        return pool[number % len(pool)].read()

    def _view(self, random: np.random.Generator, frame: augmentation.Shape) -> tuple[Pixels, Pixels, float]:
        settings = self.settings
        dice = random.random()
        if dice < settings.scenes:
            background = self._background(random)
            distractor = None
            if self.pools.distractors and random.random() < DISTRACTORS_IN_SCENES:
                distractor = _picked(_draw(random, self.pools.distractors))
            pixels, mask = compose.scene(
                random, frame, background, lambda: _picked(_draw(random, self.pools.people)), distractor
            )
            return pixels, mask, settings.distil_drawn
        if dice < settings.scenes + settings.empty and self.pools.empty:
            pixels = _draw(random, self.pools.empty)[0]
            mask = np.zeros(pixels.shape[:2], np.uint8)
            box = augmentation.whole(random, mask) if random.random() < 0.5 else augmentation.anywhere(random, mask)
            pixels, mask = augmentation.cut(pixels, mask, augmentation.fitted(random, box, mask.shape, frame), frame)
            if self.pools.distractors and random.random() < DISTRACTORS_IN_EMPTY:
                for _ in range(int(random.integers(1, 4))):
                    distractor = _picked(_draw(random, self.pools.distractors))
                    pixels, mask = compose.put_distractor(random, pixels, mask, distractor)
            return pixels, mask, 0.0
        pixels, mask, soft = _draw(random, self.pools.people)
        box = augmentation.fitted(random, augmentation.choose_crop(random, mask, settings.whole), mask.shape, frame)
        taught = settings.distil_soft if soft else settings.distil_drawn
        return *augmentation.cut(pixels, mask, box, frame), taught

    def _background(self, random: np.random.Generator) -> Picked | None:
        """Of a composed scene: a photo without people, now and then one with people, or None for a wall."""
        dice = random.random()
        if dice < GROUPS_IN_SCENES:
            return _picked(_draw(random, self.pools.people))
        return _picked(_draw(random, self.pools.empty)) if self.pools.empty and dice < 1 - WALLS_IN_SCENES else None


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)


def _picked(drawn: tuple[Pixels, Pixels, bool]) -> Picked:
    return drawn[0], drawn[1]


def _draw(random: np.random.Generator, pools: list[Pool]) -> tuple[Pixels, Pixels, bool]:
    """Draw a photo, its mask, and whether the mask is soft: first a source by weight, then one of its samples."""
    weights = np.array([weight for _, weight in pools])
    samples = pools[int(random.choice(len(pools), p=weights / weights.sum()))][0]
    sample = samples[int(random.integers(len(samples)))]
    return *sample.read(), sample.soft
