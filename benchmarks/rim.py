"""Colours at the soft edge of a cut-out: ours compared with pymatting's, which rembg's alpha matting uses.

    ./benchmarks/run.sh --only rim --data ../shared/data

A photo says nothing of the colours that a soft edge hides, so composites are made of which they are known: a person
of ccp/train, with an alpha that fades out inside the drawn mask, is laid on a photo with nobody in it. From composite
and alpha each method estimates the person's colours. Measured at the soft pixels, in levels of 0..255: the error of
these colours; the error of what they make on white; and the CPU time of it all.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.foreground import foreground

Pixels = NDArray[np.uint8]
Method = Callable[[Pixels, Pixels], Pixels]  # composite [H, W, 3] and alpha [H, W] to colours [H, W, 3]
NETWORK = 384  # pixels: the long side of the network's frame; a soft edge is about two of its pixels wide
SCALES = (1, 3)  # of the photos, whose long side is about 830 pixels


@dataclass(frozen=True)
class Case:
    """A composite with known ground truth. person, composite: uint8 [H, W, 3]. alpha: uint8 [H, W]."""

    person: Pixels
    alpha: Pixels
    composite: Pixels


def fading(mask: Pixels) -> Pixels:
    """An alpha that falls from 255 to 0 within the drawn mask, uint8 [H, W] 0/255: all its colours are a person's."""
    ramp = 2 * math.ceil(max(mask.shape) / NETWORK) + 1
    window = (ramp, ramp)
    inner = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * ramp + 1, 2 * ramp + 1)))
    soft = cv2.blur(cv2.blur(inner, window), window)
    return np.asarray(cv2.bitwise_and(soft, mask), np.uint8)


def cover(picture: Pixels, height: int, width: int) -> Pixels:
    """`picture` scaled to cover `height` x `width` and cropped."""
    scale = max(height / picture.shape[0], width / picture.shape[1])
    size = max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)[:height, :width]


def cases(data: Path, scale: int, count: int) -> Iterator[Case]:
    """`count` people of ccp/train, each on another photo of no_people."""
    people = sorted((data / "ccp" / "train" / "img").glob("*.jpg"))
    empty = sorted((data / "no_people" / "img").glob("*.jpg"))
    for path, behind in zip(people[:: max(1, len(people) // count)][:count], empty, strict=False):
        photo = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        drawn = cv2.imread(str(data / "ccp" / "train" / "mask" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        size = photo.shape[1] * scale, photo.shape[0] * scale
        person = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        mask = cv2.resize(np.where(drawn > 0, np.uint8(255), np.uint8(0)), size, interpolation=cv2.INTER_NEAREST)
        alpha = fading(np.asarray(mask, np.uint8))
        background = cover(np.asarray(cv2.imread(str(behind), cv2.IMREAD_COLOR_RGB), np.uint8), size[1], size[0])
        share = alpha[..., None].astype(np.float32) / 255
        composite = np.rint(person * share + background * (1 - share)).astype(np.uint8)
        yield Case(person, alpha, composite)


def unchanged(composite: Pixels, alpha: Pixels) -> Pixels:
    """No estimate: the composite's own colours."""
    return composite


def pymatting(composite: Pixels, alpha: Pixels) -> Pixels:
    """Germer et al., "Fast Multi-Level Foreground Estimation", 2020, in float64."""
    from pymatting import estimate_foreground_ml

    foreground = estimate_foreground_ml(composite / 255.0, alpha / 255.0)
    return np.rint(foreground.clip(0, 1) * 255).astype(np.uint8)


METHODS: dict[str, Method] = {"unchanged": unchanged, "blur fusion (ours)": foreground, "pymatting ml": pymatting}


def errors(case: Case, colours: Pixels) -> tuple[float, float]:
    """Mean absolute error of the colours, and of the person on white, over the pixels that alpha mixes."""
    soft = (case.alpha > 0) & (case.alpha < 255)
    off = np.abs(colours[soft].astype(np.float32) - case.person[soft])
    share = case.alpha[soft].astype(np.float32)[:, None] / 255
    return float(off.mean()), float((off * share).mean())


def measure(data: Path, scale: int, count: int) -> dict[str, dict[str, float]]:
    """For each method the mean `colour` and `composite` error, and the CPU `seconds` a photo."""
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in METHODS}
    for index, case in enumerate(cases(data, scale, count)):
        for name, method in METHODS.items():
            if index == 0:
                method(case.composite, case.alpha)  # pymatting compiles itself first
            start = time.process_time()
            colours = method(case.composite, case.alpha)
            took = time.process_time() - start
            rows[name].append((*errors(case, colours), took))
    keys = ("colour", "composite", "seconds")
    return {
        name: dict(zip(keys, (mean(column) for column in zip(*row, strict=True)), strict=True))
        for name, row in rows.items()
    }


def main() -> None:
    """Measure, print, and write the JSON file that run.py puts into the report."""
    parser = argparse.ArgumentParser(description="Measure the colours at soft edges.")
    parser.add_argument("data", type=Path, help="folder with ccp/train and no_people")
    parser.add_argument("--photos", type=int, default=24, help="how many (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    sizes = {str(scale): measure(arguments.data, scale, arguments.photos) for scale in SCALES}
    arguments.out.write_text(json.dumps({"photos": arguments.photos, "sizes": sizes}, indent=1))
    for scale, methods in sizes.items():
        for name, row in methods.items():
            print(
                f"{scale}x  {name:20} colour {row['colour']:5.1f}  composite {row['composite']:5.1f}  "
                f"{1000 * row['seconds']:6.0f} ms"
            )


if __name__ == "__main__":
    sys.exit(main())
