"""The endless stream of training samples: sample number n is a function of (seed, n) and of nothing else.

So a run that goes on from a checkpoint sees exactly the samples that it would have seen, and so does each of
several machines, which share the numbers out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from humanseg.training import compose, views
from humanseg.training.samples import Sample
from humanseg.training.settings import Settings
from humanseg.training.views import Picked

Pool = tuple[list[Sample], float]  # samples of one source, and the source's weight

THINGS_IN_EMPTY = 0.5  # share of the photos with nobody into which things are pasted
THINGS_IN_SCENES = 0.3  # share of the composed scenes with a thing behind or before the people


@dataclass(frozen=True)
class Pools:
    """Where samples come from.

    people: sources with masks. empty: photos with nobody, also used as backgrounds. things: cut-outs of animals,
    vehicles and the like, pasted in as what is no person.
    """

    people: list[Pool]
    empty: list[Pool]
    things: list[Pool] = field(default_factory=list)

    @property
    def samples(self) -> list[Sample]:
        """All of them."""
        return [sample for pool, _ in (*self.people, *self.empty, *self.things) for sample in pool]


class Stream(Dataset[tuple[Tensor, Tensor]]):
    """Photos float32 `[3, S, S]` in 0..1 and masks float32 `[1, S, S]` in 0..1, numbered from `start`."""

    def __init__(self, settings: Settings, pools: Pools, start: int = 0) -> None:
        self.settings, self.pools, self.start = settings, pools, start
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
            pool = [sample for samples, _ in self.pools.people for sample in samples]
            pixels, mask = pool[number % len(pool)].read()
            return views.cut(pixels, mask, views.Box(0, 0, mask.shape[1], mask.shape[0]), settings.size)
        dice = random.random()
        if dice < settings.scenes:
            empty = self.pools.empty
            background = _draw(random, empty)[0] if empty and random.random() < 0.8 else None
            thing = None
            if self.pools.things and random.random() < THINGS_IN_SCENES:
                thing = _draw(random, self.pools.things)
            pixels, mask = compose.scene(
                random, settings.size, background, lambda: _draw(random, self.pools.people), thing
            )
            pixels, mask = views.turn(random, pixels, mask)
        elif dice < settings.scenes + settings.empty and self.pools.empty:
            pixels = _draw(random, self.pools.empty)[0]
            mask = np.zeros(pixels.shape[:2], np.uint8)
            box = views.whole(random, mask) if random.random() < 0.5 else views.anywhere(random, mask)
            pixels, mask = views.cut(pixels, mask, box, settings.size)
            if self.pools.things and random.random() < THINGS_IN_EMPTY:
                for _ in range(int(random.integers(1, 4))):
                    pixels, mask = compose.put_thing(random, pixels, mask, _draw(random, self.pools.things))
            pixels, mask = views.turn(random, pixels, mask)
        else:
            pixels, mask = _draw(random, self.pools.people)
            box = views.look(random, mask, settings.whole)
            pixels, mask = views.turn(random, *views.cut(pixels, mask, box, settings.size))
        return views.camera(random, pixels), mask


def _draw(random: np.random.Generator, pools: list[Pool]) -> Picked:
    """One sample: its source by the sources' weights, then any of the source's."""
    weights = np.array([weight for _, weight in pools])
    samples = pools[int(random.choice(len(pools), p=weights / weights.sum()))][0]
    return samples[int(random.integers(len(samples)))].read()
