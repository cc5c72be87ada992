"""Photographs and pictures without people from Debian packages, as backgrounds for training.

`python -m humanseg.training.backgrounds OUT` downloads the packages with `apt-get download` (no root, nothing is
installed), picks the pictures named below and writes `OUT/img/NAME.jpg` with a long side of at most 768.
Every picture was checked manually for people. Licences are mixed (CC BY, CC BY-SA, CC0, GPL-2+; opencv-doc's
samples Apache-2.0 or BSD): see /usr/share/doc/PACKAGE/copyright in each package. They are used only for training;
none ships.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import cv2

LONG_SIDE = 768
# Prefixes of the file names in opencv-doc's samples.
OPENCV = (
    *("aero1", "aloeL", "apple", "baboon.", "blox", "board", "box_in_scene.", "building", "butterfly."),
    *("chicky_512", "ela_original", "fruits", "graf1", "home.", "leuvenA", "licenseplate_motion"),
    *("rubberwhale1", "smarties", "squirrel_cls", "stuff", "sudoku", "plant.", "orange", "scenetext03"),
    *("scenetext04", "scenetext05", "starry_night", "chessboard.", "000.", "001.", "002."),
)

# Package to the pictures in it: glob patterns below the package's root.
PICTURES: dict[str, tuple[str, ...]] = {
    "lomiri-wallpapers-16.04": ("usr/share/backgrounds/*.jpg",),
    "lomiri-wallpapers-20.04": ("usr/share/backgrounds/[FK]*.jpg",),
    "mate-backgrounds": ("usr/share/backgrounds/mate/nature/*.jpg",),
    "plasma-workspace-wallpapers": ("usr/share/wallpapers/*/contents/images/1920x1080.*",),
    "opencv-doc": tuple(f"usr/share/doc/opencv-doc/**/{name}*" for name in OPENCV),
}


def fetch(out: Path) -> int:
    """Write the pictures to `out/img`; returns their number. Raises CalledProcessError offline."""
    (out / "img").mkdir(parents=True, exist_ok=True)
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for package, patterns in PICTURES.items():
            root = unpack(package, Path(folder))
            for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
                count += _store(path, out / "img" / f"{package}_{count:03d}.jpg")
    return count


def unpack(package: str, folder: Path) -> Path:
    """Download a Debian package into `folder` and unpack it there; returns its root. CalledProcessError offline."""
    subprocess.run(("apt-get", "download", package), cwd=folder, check=True, capture_output=True)
    archive = next(folder.glob(f"{package}_*.deb"))
    subprocess.run(("dpkg", "-x", str(archive), str(folder / package)), check=True)
    return folder / package


def _store(path: Path, destination: Path) -> bool:
    picture = cv2.imread(str(path)) if path.suffix in {".jpg", ".jpeg", ".png"} else None
    if picture is None or min(picture.shape[:2]) < 200:
        return False
    scale = LONG_SIDE / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imwrite(str(destination), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])


if __name__ == "__main__":
    print(f"{fetch(Path(sys.argv[1]))} pictures")
