"""The photos that everything is measured with: small, typical, and a phone's; all from one public-domain portrait.

The portrait (NASA, tests/photos/astronaut.jpg) is enlarged, its sides are mirrored outwards to 4:3, and grain as
of a sensor is laid over it, because a smooth enlargement would make a JPEG a tenth as large as a real photo's.
The same call makes the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PORTRAIT = ROOT / "tests" / "photos" / "astronaut.jpg"


@dataclass(frozen=True)
class Size:
    """width, height: pixels. grain: standard deviation of the noise, in steps of 8 bits. quality: JPEG's, 0..100."""

    width: int
    height: int
    grain: float
    quality: int


SIZES = {
    "small": Size(640, 480, 6.0, 93),
    "typical": Size(1600, 1200, 6.0, 93),
    "phone": Size(4000, 3000, 6.0, 93),
}


def make_photo(size: Size) -> bytes:
    """One JPEG, 4:2:0 as cameras write it."""
    portrait = np.asarray(Image.open(PORTRAIT).convert("RGB"))
    side = size.height
    how = cv2.INTER_CUBIC if side > portrait.shape[0] else cv2.INTER_AREA
    middle = cv2.resize(portrait, (side, side), interpolation=how)
    left = (size.width - side) // 2
    right = size.width - side - left
    wide = cv2.copyMakeBorder(middle, 0, 0, left, right, cv2.BORDER_REFLECT)
    noise = np.random.default_rng(0).normal(0, size.grain, wide.shape)
    grainy = np.clip(wide + noise, 0, 255).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(grainy).save(file, "JPEG", quality=size.quality, subsampling="4:2:0")
    return file.getvalue()


def write_shapes(small: Path) -> list[Path]:
    """Parts of the small photo in the shapes that cameras and phones have besides its own 4:3."""
    photo, paths = Image.open(small), []
    for wide, high in ((1, 1), (3, 4), (3, 2), (2, 3), (16, 9), (9, 16)):
        scale = min(photo.width / wide, photo.height / high)
        path = small.with_name(f"shape-{wide}x{high}.jpg")
        photo.crop((0, 0, int(wide * scale), int(high * scale))).save(path, quality=93)
        paths.append(path)
    return paths


def write_photos(folder: Path) -> dict[str, Path]:
    """The three files, made where they are missing: {"small": path, "typical": path, "phone": path}."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, size in SIZES.items():
        path = folder / f"{name}-{size.width}x{size.height}-q{size.quality}-g{size.grain:g}.jpg"
        if not path.exists():
            path.write_bytes(make_photo(size))
        paths[name] = path
    return paths
