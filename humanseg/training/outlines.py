"""Refines coarse outlines of drawn masks, such as COCO's polygons, with the probability of a trained network.

    python -m humanseg.training.outlines FOLDER WEIGHTS OUT [--bystanders 0.08]

reads a data set (`FOLDER/img` with `FOLDER/mask`, or a COCO JSON, see `samples.py`) and writes `OUT/img/NAME.jpg`, a
copy, and `OUT/mask/NAME.png`, a soft mask, for a source of the kind `soft`.

A polygon is right about who is in the photo and a few pixels off at the edge. A network that sees the person in a
crop is accurate at the edge but sometimes wrong about the person. So the network decides only in a narrow band around
the outline of each drawn region, and only where it agrees with the drawing; elsewhere the band is blurred: the edge
is uncertain.

COCO draws every passer-by, the street photographs and portraits only the people whom a photo is about. With
`--bystanders`, regions that are smaller than this share of the largest one and beside it become background, so that
the data sets agree.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.regions import main_regions
from humanseg.training.metrics import iou
from humanseg.training.samples import Pixels, Sample, Source, find_samples

Map = NDArray[np.float32]
Predict = Callable[[Pixels], Map]

MARGIN = 0.3  # of a region's longer side around it, so that the network sees its surroundings
BAND = 0.03  # of the square root of a region's area, to each side of its outline
BAND_LEAST, BAND_MOST = 2.0, 8.0  # pixels
LEAST_AREA = 0.0004  # of the photo; smaller regions are only blurred
AGREEMENT = 0.85  # least IoU of network and drawing around a region


def refine(pixels: Pixels, mask: Pixels, predict: Predict) -> Pixels:
    """The soft mask, uint8 [H, W], of a drawn one.

    Args:
        pixels: the photo, uint8 [H, W, 3] RGB.
        mask: uint8 [H, W], 255 = person.
        predict: the probability, float32 [h, w] in 0..1, for a crop of the photo, uint8 [h, w, 3].
    """
    drawn = (mask > 127).astype(np.uint8)
    count, labels, facts, _ = cv2.connectedComponentsWithStats(drawn)
    soft = drawn.astype(np.float32)
    for number in range(1, count):
        left, top, wide, tall, area = (int(value) for value in facts[number])
        place = _around(left, top, wide, tall, drawn.shape)
        region = (labels[place] == number).astype(np.uint8)
        radius = float(np.clip(BAND * np.sqrt(area), BAND_LEAST, BAND_MOST))
        others = (labels[place] != 0) & (labels[place] != number)
        outside = cv2.distanceTransform(1 - region, cv2.DIST_L2, 5)  # distance to the region
        inside = cv2.distanceTransform(region, cv2.DIST_L2, 5)  # and to its outline; the frame's edge is none
        band = (outside <= radius) & (inside <= radius) & ~others
        blurred: Map = cv2.GaussianBlur(soft[place], (0, 0), radius / 2)  # type: ignore[assignment]
        edge = blurred
        if area >= LEAST_AREA * drawn.size:
            near = predict(np.ascontiguousarray(pixels[place]))
            around = outside <= 4 * radius
            if iou((near > 0.5) & around, region > 0) >= AGREEMENT:
                edge = near
        soft[place] = np.where(band, edge, soft[place])
    return np.rint(soft * 255).astype(np.uint8)


def _around(left: int, top: int, wide: int, tall: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    margin = max(16, round(MARGIN * max(wide, tall)))
    rows = slice(max(0, top - margin), min(shape[0], top + tall + margin))
    return rows, slice(max(0, left - margin), min(shape[1], left + wide + margin))


def network(weights: Path) -> Predict:
    """The mean prediction of these weights for a crop and its mirror image."""
    from humanseg.segmentation.engine import reference_engine
    from humanseg.segmentation.pipeline import probability
    from humanseg.segmentation.weights import load_weights

    loaded = load_weights(weights)
    engine = reference_engine(loaded.network, loaded.spec)

    def predict(pixels: Pixels) -> Map:
        straight = probability(engine, loaded.spec, pixels).astype(np.float32)
        mirrored = probability(engine, loaded.spec, np.ascontiguousarray(pixels[:, ::-1]))[:, ::-1]
        return ((straight + mirrored) / 510).astype(np.float32)

    return predict


def refine_all(samples: list[Sample], out: Path, predict: Predict, bystanders: float = 0.0) -> int:
    """Write photos and refined masks to `out`; returns their number. Photos that are there already are skipped.

    bystanders: both shares of `main_regions`; 0 keeps all regions.
    """
    (out / "img").mkdir(parents=True, exist_ok=True)
    (out / "mask").mkdir(exist_ok=True)
    for sample in samples:
        copy = out / "img" / sample.photo.name
        if copy.exists():
            continue
        pixels, mask = sample.read()
        mask = np.where(main_regions(mask > 127, bystanders, bystanders), np.uint8(255), np.uint8(0))
        cv2.imwrite(str(out / "mask" / f"{sample.photo.stem}.png"), refine(pixels, mask, predict))
        shutil.copyfile(sample.photo, copy)
    return len(samples)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("weights", type=Path, metavar="WEIGHTS")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--bystanders", type=float, default=0.0, help="0..1 (default: 0, all regions stay)")
    given = parser.parse_args()
    number = refine_all(find_samples(Source(given.folder)), given.out, network(given.weights), given.bystanders)
    print(f"{given.out}: {number} photos")
