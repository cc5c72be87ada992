"""Photos of animals and things without people from Caltech-101, by the list of those that run 24 was trained on.

`python -m humanseg.training.caltech 101_ObjectCategories OUT` reads the unpacked data set (Li, Andreeto, Ranzato,
Perona 2022, https://doi.org/10.22002/D1.20086, CC BY 4.0) and writes `OUT/img/NAME.jpg`, for sources of the kind
`empty`.

The weights that ship take a quarter of all photos of animals for people. So 838 of the 1,230 listed photos are those
on which they mark more than 0.5 % of the pixels; the others are at most eight of each category. The marked ones were
checked manually for people; categories that people wear, play, hold or are carved in were left out. They are used
only for training; none ships.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

LIST = Path(__file__).with_name("caltech_photos.tsv")


def listed(path: Path = LIST) -> list[str]:
    """The photos' paths in the data set."""
    rows = (line.split("\t") for line in path.read_text().splitlines())
    return [f"{category}/image_{int(number):04d}.jpg" for category, numbers in rows for number in numbers.split()]


def copy(categories: Path, out: Path) -> int:
    """Copy the listed photos to `out/img`; returns their number. Raises FileNotFoundError if one is missing."""
    (out / "img").mkdir(parents=True, exist_ok=True)
    photos = listed()
    for photo in photos:
        shutil.copyfile(categories / photo, out / "img" / photo.replace("/", "-"))
    return len(photos)


if __name__ == "__main__":
    print(f"{copy(Path(sys.argv[1]), Path(sys.argv[2]))} photos")
