"""Creates a data set with soft masks from unlabelled photos (`humanseg pseudo-label`).

Writes `OUT/img/NAME.jpg` (a copy), `OUT/mask/NAME.png` (8-bit, 255 = certainly a person) and
`OUT/report.csv`, with each photo's agreement and whether it was kept.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.photo import read_photo
from humanseg.training.teacher import MINIMUM_AGREEMENT

Labeller = Callable[[NDArray[np.uint8]], tuple[NDArray[np.uint8], float]]


def pseudo_label(
    photos: list[Path], out: Path, label: Labeller, minimum: float = MINIMUM_AGREEMENT
) -> tuple[int, int]:
    """Label `photos` into `out`; returns the numbers of kept and dropped photos.

    `label` turns RGB uint8 `[H, W, 3]` into a soft mask uint8 `[H, W]` and its agreement in 0..1.
    """
    (out / "img").mkdir(parents=True, exist_ok=True)
    (out / "mask").mkdir(exist_ok=True)
    kept = 0
    with (out / "report.csv").open("w", newline="") as file:
        report = csv.writer(file)
        report.writerow(("photo", "agreement", "kept"))
        for path in photos:
            mask, agreement = label(read_photo(path.read_bytes()).pixels)
            keep = agreement >= minimum
            report.writerow((path.name, f"{agreement:.4f}", int(keep)))
            if keep:
                kept += 1
                shutil.copyfile(path, out / "img" / path.name)
                cv2.imwrite(str(out / "mask" / f"{path.stem}.png"), mask)
    return kept, len(photos) - kept
