"""Fits the calibration of a network's confidence on held-out photos, and stores it in the weights.

`python -m humanseg.training.calibrate WEIGHTS RECIPE OUT` draws samples from the recipe's held-out photos like
training does from the others (crops, scenes, hard light, without people), segments each, and writes OUT: WEIGHTS with
the calibration. No evaluation set is used.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from humanseg.segmentation.engine import reference_engine
from humanseg.segmentation.pipeline import segment
from humanseg.segmentation.weights import Weights, load_weights, save_weights
from humanseg.training.metrics import iou
from humanseg.training.reliability import Pair, calibration_error, learn
from humanseg.training.samples import find_samples, split
from humanseg.training.settings import Settings, read_recipe
from humanseg.training.stream import Pools, Stream

SAMPLES = 500


def held_out(settings: Settings) -> Pools:
    """The held-out photos with ground truth, and those without people, as training's pools."""
    pools = Pools([], [])
    for source in settings.data:
        nobody = source.kind == "empty"
        usual = settings.hold_out_empty if nobody else settings.hold_out
        share = usual if source.hold_out is None else source.hold_out
        if share and source.kind in ("masks", "empty"):
            kept = split(find_samples(source), share)[1]
            if kept:
                (pools.empty if nobody else pools.people).append((kept, source.weight))
    return pools


def pairs(weights: Weights, settings: Settings, samples: int = SAMPLES) -> list[Pair]:
    """(raw confidence, IoU) of each sample with a detected person."""
    engine = reference_engine(weights.network, weights.spec)
    stream = Stream(replace(settings, seed=settings.seed + 1), held_out(settings))
    measured_pairs = []
    for number in range(samples):
        shown = stream.picture(number)
        segmentation = segment(engine, weights.spec, shown.seen)
        if segmentation.mask.any():
            measured_pairs.append((segmentation.summary().confidence, iou(segmentation.mask > 0, shown.mask > 127)))
    return measured_pairs


def main() -> None:
    """Fit and write the calibration, and print its effect."""
    path, recipe, out = (Path(argument) for argument in sys.argv[1:4])
    weights = load_weights(path)
    measured = pairs(weights, read_recipe(recipe))
    # Fitted on every other photo and tested on the rest; the stored calibration is fitted on all.
    tried = learn(measured[::2])
    judged = [(tried(score), true_iou) for score, true_iou in measured[1::2]]
    print(f"{len(measured)} photos; calibration error {calibration_error(measured[1::2]):.3f} before, ", end="")
    print(f"{calibration_error(judged):.3f} after, fitted on the other half")
    calibration = learn(measured)
    print(calibration.text())
    save_weights(
        out,
        weights.network,
        architecture=weights.architecture,
        input_size=weights.spec.long_side,
        threshold=weights.spec.threshold,
        peak=repr(weights.spec.peak),
        calibration=calibration.text(),
    )


if __name__ == "__main__":
    main()
