"""Chooses the decision threshold of the weights on training data.

`python -m humanseg.training.threshold WEIGHTS RECIPE` prints, for thresholds from 0.3 to 0.7, the mean IoU of the
recipe's held-out photos with ground truth, and the share of its training photos without people that have more than 1
% false coverage. No evaluation set is used.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from humanseg.segmentation.engine import reference_engine
from humanseg.segmentation.mask import binary_mask
from humanseg.segmentation.photo import read_photo
from humanseg.segmentation.pipeline import probability
from humanseg.segmentation.weights import load_weights
from humanseg.training.metrics import Score, over_one_percent, score
from humanseg.training.samples import find_samples, split
from humanseg.training.settings import read_recipe

THRESHOLDS = tuple(round(0.3 + 0.05 * index, 2) for index in range(9))


def sweep(weights_file: Path, recipe: Path) -> list[tuple[float, float, float]]:
    """(threshold, mean IoU, share of empty photos with false coverage) for each of `THRESHOLDS`."""
    weights = load_weights(weights_file)
    engine = reference_engine(weights.network, weights.spec)
    settings = read_recipe(recipe)
    people: dict[float, list[Score]] = {threshold: [] for threshold in THRESHOLDS}
    empty: dict[float, list[Score]] = {threshold: [] for threshold in THRESHOLDS}
    for source in settings.data:
        if source.kind in ("soft", "distractors"):
            continue
        share = settings.hold_out if source.hold_out is None else source.hold_out
        nobody = source.kind == "empty"
        training, kept = split(find_samples(source), settings.hold_out_empty if nobody else share)
        for sample in training if nobody and source.hold_out is None else kept:
            pixels = read_photo(sample.photo.read_bytes()).pixels
            predicted = probability(engine, weights.spec, pixels)
            true = sample.read()[1] > 127
            for threshold in THRESHOLDS:
                kind = empty if nobody else people
                kind[threshold].append(score(binary_mask(predicted, threshold) > 0, true))
    return [
        (
            threshold,
            float(np.mean([item.iou for item in people[threshold]])),
            over_one_percent(empty[threshold]),
        )
        for threshold in THRESHOLDS
        if people[threshold] and empty[threshold]
    ]


if __name__ == "__main__":
    for threshold, mean_iou, false_share in sweep(Path(sys.argv[1]), Path(sys.argv[2])):
        print(f"threshold {threshold:.2f}  held-out mean IoU {mean_iou:.4f}  empty photos over 1 % {false_share:.3f}")
