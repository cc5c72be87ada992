"""The endless stream of training samples: sample number n is a function of (seed, n) and of nothing else.

So a run that goes on from a checkpoint sees exactly the samples that it would have seen, and so does each of
several machines, which share the numbers out.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from training import compose, views
from training.samples import Sample
from training.settings import Settings
from training.views import Picked, Pixels

Pool = tuple[list[Sample], float]  # samples of one source, and the source's weight


class Stream(Dataset[tuple[Tensor, Tensor]]):
    """Photos float32 `[3, S, S]` in 0..1 and masks float32 `[1, S, S]` in 0..1, numbered from `start`.

    `people` are the sources with masks; `empty` are photos with nobody, also used as backgrounds.
    """

    def __init__(self, settings: Settings, people: list[Pool], empty: list[Pool], start: int = 0) -> None:
        self.settings = settings
        self.start = start
        self.people, self.empty = people, empty
        self._people_shares = _shares(people)
        self._empty_shares = _shares(empty)
        cv2.setNumThreads(0)

    def __len__(self) -> int:
        return max(0, self.settings.steps * self.settings.batch - self.start)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels, mask = self.picture(self.start + index)
        size = self.settings.size
        photo = torch.from_numpy(views.square(pixels, size)).permute(2, 0, 1).float().div_(255)
        label = torch.from_numpy(views.square(mask, size)).unsqueeze(0).float().div_(255)
        return photo, label

    def picture(self, number: int) -> Picked:
        """Photo uint8 `[h, w, 3]` and mask uint8 `[h, w]` of one sample before it is put on black."""
        settings = self.settings
        random = np.random.default_rng((settings.seed, number))
        if settings.augment == "none":
            pool = [sample for samples, _ in self.people for sample in samples]
            pixels, mask = pool[number % len(pool)].read()
            return views.cut(pixels, mask, views.Box(0, 0, mask.shape[1], mask.shape[0]), settings.size)
        dice = random.random()
        if dice < settings.scenes:
            background = self._background(random) if self.empty and random.random() < 0.8 else None
            pixels, mask = compose.scene(random, settings.size, background, lambda: self._person(random))
            pixels, mask = views.turn(random, pixels, mask)
        elif dice < settings.scenes + settings.empty and self.empty:
            pixels = self._background(random)
            mask = np.zeros(pixels.shape[:2], np.uint8)
            box = views.whole(random, mask) if random.random() < 0.5 else views.anywhere(random, mask)
            pixels, mask = views.turn(random, *views.cut(pixels, mask, box, settings.size))
        else:
            pixels, mask = self._person(random)
            box = views.look(random, mask, settings.whole)
            pixels, mask = views.turn(random, *views.cut(pixels, mask, box, settings.size))
        return views.camera(random, pixels), mask

    def _person(self, random: np.random.Generator) -> Picked:
        samples = self.people[int(random.choice(len(self.people), p=self._people_shares))][0]
        return samples[int(random.integers(len(samples)))].read()

    def _background(self, random: np.random.Generator) -> Pixels:
        samples = self.empty[int(random.choice(len(self.empty), p=self._empty_shares))][0]
        return samples[int(random.integers(len(samples)))].read()[0]


def _shares(pools: list[Pool]) -> list[float]:
    total = sum(weight for _, weight in pools)
    return [weight / total for _, weight in pools]
