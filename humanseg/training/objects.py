"""Photographs of animals, tools, buildings and the like without people, from Debian's `gcompris-qt-data`.

`python -m humanseg.training.objects OUT` downloads the package with `apt-get download` (no root, nothing is
installed) and writes `OUT/img/NAME.jpg`, for sources of the kind `empty`. These are what a network that has seen few
photos without people takes for one: of 173, the weights of the tenth run found somebody in 16 % (HISTORY.md).

Every picture below was checked manually for people and statues. Licences are mixed (CC BY, CC BY-SA, CC0, GPL): see
/usr/share/doc/gcompris-qt-data/copyright. They are used only for training; none ships.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from humanseg.training.backgrounds import LONG_SIDE, unpack
from humanseg.training.samples import Pixels

PACKAGE = "gcompris-qt-data"
LEAST_SIDE = 200  # pixels; smaller ones are icons

# Activity to the numbers of its pictures, counted in the order of its file.
PICTURES: dict[str, tuple[range, ...]] = {
    "categorization": (range(1, 9), range(10, 84), range(108, 124)),
    "clickgame": (range(1, 7),),
    "details": (range(1, 3), range(4, 5), range(7, 8), range(10, 13, 2), range(14, 16), range(17, 20), range(21, 22)),
    "erase": (range(1, 34),),
    "explore_farm_animals": (range(1, 10),),
    "explore_world_animals": (range(1, 16),),
}


def webp_pictures(container: bytes) -> Iterator[Pixels]:
    """The opaque WebP pictures in a Qt resource file, BGR uint8 [H, W, 3], in their order.

    Qt stores them as they are, so that their RIFF headers (RFC 9649) tell where they begin and end.
    """
    start = container.find(b"RIFF")
    while start >= 0:
        if container[start + 8 : start + 12] == b"WEBP":
            length = 8 + int.from_bytes(container[start + 4 : start + 8], "little")
            data = np.frombuffer(container[start : start + length], np.uint8)
            picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
            if picture is not None and picture.ndim == 3 and picture.shape[2] == 3:
                yield picture  # type: ignore[misc]
        start = container.find(b"RIFF", start + 4)


def fetch(out: Path) -> int:
    """Write the photos to `out/img`; returns their number. Raises CalledProcessError offline."""
    (out / "img").mkdir(parents=True, exist_ok=True)
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        files = unpack(PACKAGE, Path(folder)) / "usr/share/gcompris-qt/rcc"
        for activity, ranges in PICTURES.items():
            container = (files / f"{activity}.rcc").read_bytes()
            photos = [picture for picture in webp_pictures(container) if min(picture.shape[:2]) >= LEAST_SIDE]
            for number, photo in enumerate(photos, 1):
                if any(number in part for part in ranges):
                    count += _store(photo, out / "img" / f"{activity}_{number:03d}.jpg")
    return count


def _store(photo: Pixels, path: Path) -> bool:
    scale = LONG_SIDE / max(photo.shape[:2])
    if scale < 1:
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return cv2.imwrite(str(path), photo, [cv2.IMWRITE_JPEG_QUALITY, 92])


if __name__ == "__main__":
    print(f"{fetch(Path(sys.argv[1]))} photos")
