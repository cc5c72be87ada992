"""A preview of the mask before serving, with warnings about suspicious masks.

A network with a wrong input format, or whose output is misinterpreted, still produces a mask.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from humanseg.segmentation.graph import Graph
from humanseg.segmentation.models import reference
from humanseg.segmentation.photo import read_photo
from humanseg.segmentation.picture import draw
from humanseg.segmentation.pipeline import preprocess, segment
from humanseg.segmentation.spec import Spec
from humanseg.segmentation.weights import Weights

ALL, NONE = 0.97, 0.002  # shares of person pixels that are implausible for a photo of a person
FLAT = 0.02  # standard deviation of the probability below which it is uninformative
RING = 0.06  # of a side: a photo's border, which rarely contains a person
LARGEST = 1600  # long side of the preview's halves, pixels


def write_preview(model: Weights | Graph, photo: Path, destination: Path) -> list[str]:
    """Write a PNG with the photo's person tinted, and the mask beside it; return warnings.

    Raises PhotoError or OSError if the photo can't be read.
    """
    read = read_photo(photo.read_bytes())
    engine = reference(model)
    frame = preprocess(read.pixels, model.spec)
    raw = engine.output(frame[None])
    segmentation = segment(engine, model.spec, read.pixels)
    mask = np.repeat(segmentation.mask[:, :, None], 3, axis=2)
    image = Image.fromarray(np.hstack((draw(read, segmentation, "overlay"), mask)))
    image.thumbnail((2 * LARGEST, LARGEST))
    image.save(destination)
    return doubts(raw, segmentation.probability_map, model.spec)


def doubts(raw: NDArray[np.float32], probability: NDArray[np.float32], spec: Spec) -> list[str]:
    """Warnings about a network's result for a photo of a person, each with the option that may fix it.

    raw: the network's output. probability: float32 [H, W] in 0..1, derived from it.
    """
    if not np.isfinite(raw).all():
        return ["the output is NaN or infinite: the input may need another scale (--scale, --mean, --std)"]
    lowest, highest = float(raw.min()), float(raw.max())
    if spec.output_activation == "none" and (lowest < -0.01 or highest > 1.01):
        return [f"the output is {lowest:.3g} to {highest:.3g}, not a probability: try --output-activation sigmoid"]
    if spec.output_activation != "none" and lowest >= 0 and highest <= 1 and highest - lowest > 0.5:
        return [f"the output is {lowest:.3g} to {highest:.3g}, like a probability: try --output-activation none"]
    problems = []
    coverage = float((probability > spec.threshold).mean())
    if probability.std() < FLAT:
        problems.append("the output is almost constant: the input may need another scale (--scale, --mean, --std)")
    if coverage > ALL:
        problems.append(
            f"{coverage:.1%} of the photo are person: try another --person-channel or --output-activation"
        )
    elif coverage < NONE:
        problems.append(f"{coverage:.1%} of the photo are person: try another --person-channel, or --mean and --std")
    elif _inverted(probability):
        problems.append(
            "the photo's border is person and its centre is not: the mask may be inverted "
            "(--background-channel 0, or another --person-channel)"
        )
    return problems


def _inverted(probability: NDArray[np.float32]) -> bool:
    height, width = probability.shape
    rows, columns = max(1, round(height * RING)), max(1, round(width * RING))
    # Without the bottom, where a portrait is cut off.
    rim = [probability[:rows].mean(), probability[:, :columns].mean(), probability[:, -columns:].mean()]
    middle = probability[height // 3 : -(height // 3) or None, width // 3 : -(width // 3) or None]
    return bool(min(rim) > 0.5 and float(np.mean(rim)) > middle.mean() + 0.2)
