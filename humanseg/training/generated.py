"""Selfies, close-up faces and studio portraits of ten generated people, with masks, as training data.

`python -m humanseg.training.generated TEACHER.tflite OUT` reads the pictures of PyPI's `openpeople` (MIT; made
by an image generator, no photographs), cuts the sheets of expressions and views into single pictures, and writes
`OUT/img/NAME.jpg` and `OUT/mask/NAME.png` (8-bit). The teacher segments the person; on a plain studio wall, GrabCut
(Rother, Kolmogorov, Blake 2004) then refines the edge. They are never used for evaluation.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.training.teacher import Teacher

Pixels = NDArray[np.uint8]
LONG_SIDE = 900
SHEETS = ("character_sheet", "emotions_sheet")


def tiles(sheet: Pixels) -> Iterator[Pixels]:
    """The pictures inside the white frames of a sheet, RGB uint8 `[h, w, 3]`, in reading order."""
    white = (sheet.min(axis=2) > 235).astype(np.uint8)
    contours, _ = cv2.findContours(white, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    boxes = set()
    for contour in contours:
        x, y, width, height = cv2.boundingRect(contour)
        inside = cv2.contourArea(contour) > 0.9 * width * height
        if inside and 150 < width < 700 and 150 < height < 1100 and 0.3 < width / height < 2.5:
            boxes.add((y // 40, x // 40, y, x, height, width))
    last = None
    for row, column, y, x, height, width in sorted(boxes):
        if (row, column) != last:  # the frame's outer and inner edge are two contours
            yield sheet[y + 12 : y + height - 12, x + 12 : x + width - 12]
        last = (row, column)


def studio_mask(pixels: Pixels, soft: Pixels) -> Pixels:
    """Refine the edge of the teacher's `soft` mask with GrabCut; uint8 `[h, w]`."""
    kernel = np.ones((2 * (max(soft.shape) // 60) + 1,) * 2, np.uint8)
    guess: Pixels = np.where(soft > 127, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    guess[cv2.erode(soft, kernel) > 230] = cv2.GC_FGD
    guess[cv2.dilate(soft, kernel) < 25] = cv2.GC_BGD
    cv2.setRNGSeed(0)
    cv2.grabCut(pixels, guess, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    binary = np.where((guess == cv2.GC_FGD) | (guess == cv2.GC_PR_FGD), 255, 0).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(cv2.medianBlur(binary, 5), (0, 0), 1.0), np.uint8)


def pictures(assets: Path) -> Iterator[tuple[str, Pixels, bool]]:
    """(name, RGB picture, whether its background is a plain wall) of one person."""
    for path in sorted(assets.glob("*.jpg")):
        pixels = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), np.uint8)
        if path.stem in SHEETS:
            for index, tile in enumerate(tiles(pixels)):
                yield f"{path.stem}_{index:02d}", tile, True
        else:
            yield path.stem, pixels, path.stem.startswith("studio")


def make(teacher: Teacher, out: Path) -> int:
    """Write the data set; returns the number of pictures."""
    import openpeople

    (out / "img").mkdir(parents=True, exist_ok=True)
    (out / "mask").mkdir(exist_ok=True)
    count = 0
    for assets in sorted((Path(openpeople.__file__).parent / "data" / "curated").glob("*/assets")):
        for name, pixels, wall in pictures(assets):
            scale = min(1.0, LONG_SIDE / max(pixels.shape[:2]))
            small = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
            height, width = small.shape[:2]
            # A figure with much space around it is labelled along its height, others in one pass.
            tall = height > 1.4 * width and "selfie" not in name
            soft = teacher.label(small)[0] if tall else np.rint(teacher.predict(small) * 255).astype(np.uint8)
            mask = studio_mask(small, soft) if wall else soft
            target = f"{assets.parent.name}_{name}"
            cv2.imwrite(str(out / "img" / f"{target}.jpg"), small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 93])
            cv2.imwrite(str(out / "mask" / f"{target}.png"), mask)
            count += 1
    return count


if __name__ == "__main__":
    print(f"{make(Teacher(Path(sys.argv[1])), Path(sys.argv[2]))} pictures")
