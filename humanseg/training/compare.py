"""Compares two models on the same photos through the serving pipeline; see `paired` and `compare_report`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.photo import Pixels, read_photo
from humanseg.training.candidates import Candidate
from humanseg.training.facts import Facts, facts_of
from humanseg.training.kinds import kinds_of
from humanseg.training.metrics import Mask, score
from humanseg.training.paired import BINS, Paired
from humanseg.training.samples import DataError, Sample, check

_BIN_OF_LEVEL = np.minimum(np.arange(256) * BINS // 255, BINS - 1)
MEASURES = ("iou", "boundary_f", "coverage")


@dataclass(frozen=True)
class Measured:
    """The measurements of both models. samples[i] and facts[i] belong to row i of `paired`."""

    samples: tuple[Sample, ...]
    facts: tuple[Facts, ...]
    paired: Paired


def measure(
    old: Candidate,
    new: Candidate,
    samples: Sequence[Sample],
    *,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Measured:
    """Run both models on each of `samples`, with one photo in memory at a time.

    The order alternates, and the first frame of a shape is not timed, so that warm caches favour neither. Raises
    DataError, listing every invalid file, before the first measurement.
    """
    if problems := check(samples):
        raise DataError("\n".join(problems))
    if not samples:
        raise DataError("no photos to compare: use --data DIR")
    facts = facts_of(list(samples))
    values = np.zeros((2, len(samples), len(MEASURES)))
    bins = np.zeros((2, len(samples), BINS, 3))
    seconds = np.zeros((len(samples), 2))
    people = np.zeros(len(samples), bool)
    kinds: list[dict[str, str]] = []
    seen: set[tuple[int, tuple[int, int]]] = set()
    for index, sample in enumerate(samples):
        pixels = read_photo(sample.photo.read_bytes()).pixels
        true = sample.read()[1] > 127
        people[index] = true.any()
        kinds.append(kinds_of(pixels, true, facts[index], len(sample.shapes) or None))
        for side in (0, 1) if index % 2 else (1, 0):
            candidate = (old, new)[side]
            shape = side, candidate.frame(pixels)
            if shape not in seen:
                seen.add(shape)
                candidate.segment(pixels)
            started = clock()
            segmentation = candidate.segment(pixels)
            seconds[index, side] = max(1e-9, clock() - started)
            scored = score(segmentation.mask > 0, true)
            values[side, index] = [getattr(scored, name) for name in MEASURES]
            bins[side, index] = reliability(segmentation.probability, true)
        progress(index + 1, len(samples))
    names = sorted({name for row in kinds for name in row})
    paired = Paired(
        old={name: values[0, :, place] for place, name in enumerate(MEASURES)},
        new={name: values[1, :, place] for place, name in enumerate(MEASURES)},
        people=people,
        weights=np.array([1 / photo.probability for photo in facts]),
        old_bins=bins[0],
        new_bins=bins[1],
        seconds=seconds,
        kinds={name: np.array([row.get(name, "") for row in kinds]) for name in names},
    )
    return Measured(tuple(samples), tuple(facts), paired)


def reliability(probability: Pixels, true: Mask) -> NDArray[np.float64]:
    """A photo's reliability, [BINS, 3]: per probability bin the share of pixels, predicted and true probability.

    probability: uint8 [H, W], 255 = certain. true: bool [H, W].
    """
    all_levels = np.bincount(probability.ravel(), minlength=256)
    true_levels = np.bincount(probability[true], minlength=256)
    columns = (all_levels, all_levels * np.arange(256) / 255, true_levels)
    summed = [np.bincount(_BIN_OF_LEVEL, weights=column, minlength=BINS) for column in columns]
    return np.stack(summed, axis=1) / true.size
