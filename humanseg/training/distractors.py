"""Distractors: cut-outs of animals, vehicles, household items and food, from Debian's `tuxpaint-stamps-default`.

`python -m humanseg.training.distractors OUT` downloads the package with `apt-get download` (no root, nothing is
installed) and writes each photographed stamp as `OUT/img/NAME.png` and its alpha as `OUT/mask/NAME.png`, for
sources of the kind `distractors`.

Folders with people, clothes and drawings are excluded; the others were checked manually. GPL-2; they are used only
for training, none ships.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cv2

from humanseg.training.backgrounds import unpack

PACKAGE = "tuxpaint-stamps-default"
FOLDERS = ("animals", "vehicles", "household", "food", "hobbies", "plants", "town", "sports", "space")
LEAST_SIDE = 60  # pixels; smaller stamps would be too blurred
LEAST_CLEAR = 0.05  # share of transparent pixels; a cut-out has some


def fetch(out: Path) -> int:
    """Write the cut-outs to `out`; returns their number. Raises CalledProcessError offline."""
    (out / "img").mkdir(parents=True, exist_ok=True)
    (out / "mask").mkdir(exist_ok=True)
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        stamps = unpack(PACKAGE, Path(folder)) / "usr/share/tuxpaint/stamps"
        for path in sorted(path for name in FOLDERS for path in (stamps / name).rglob("*.png")):
            if "cartoon" not in path.parts:
                count += _store(path, out, "_".join(path.relative_to(stamps).with_suffix("").parts))
    return count


def _store(path: Path, out: Path, name: str) -> bool:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4 or min(picture.shape[:2]) < LEAST_SIDE:
        return False
    alpha = picture[..., 3]
    if (alpha < 128).mean() < LEAST_CLEAR:
        return False
    cv2.imwrite(str(out / "mask" / f"{name}.png"), alpha)
    return cv2.imwrite(str(out / "img" / f"{name}.png"), picture[..., :3])


if __name__ == "__main__":
    print(f"{fetch(Path(sys.argv[1]))} cut-outs")
