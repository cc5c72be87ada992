"""Photos of COCO 2017 with and without people, by the list of those that the shipped weights were trained on.

    python -m humanseg.training.coco_photos INSTANCES_JSON... OUT [--licences 4 5 7 8]

INSTANCES_JSON are `instances_train2017.json` and `instances_val2017.json` of http://images.cocodataset.org/annotations/
annotations_trainval2017.zip. Photos are downloaded from the address in them. Writes `OUT/people`, a COCO JSON with
its photos (refine its outlines with `humanseg.training.outlines`), and `OUT/empty/img`. A second start continues.

`coco_photos.tsv` lists photos and COCO's number of their licence: 1 CC BY-NC-SA, 2 CC BY-NC, 3 CC BY-NC-ND, 4 CC BY,
5 CC BY-SA, 6 CC BY-ND, 7 no known restrictions, 8 US government work. The annotations are CC BY 4.0. With
`--licences`, photos under others are left out. They are used only for training; none ships.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import requests

from humanseg.common.files import write_whole

LIST = Path(__file__).with_name("coco_photos.tsv")
THREADS = 8
TIMEOUT_SECONDS = 30.0


def listed(path: Path = LIST) -> dict[str, int]:
    """Photo (its file's name without suffix) to licence."""
    rows = (line.split("\t") for line in path.read_text().splitlines())
    return {name: int(licence) for name, licence in rows}


def select(content: dict[str, Any], names: set[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the part of a COCO file with photos of people, the images without people) among the photos `names`."""
    images = {image["id"]: image for image in content["images"] if Path(image["file_name"]).stem in names}
    persons = [category for category in content["categories"] if category["name"] == "person"]
    numbers = {category["id"] for category in persons}
    drawn = [one for one in content["annotations"] if one["category_id"] in numbers and one["image_id"] in images]
    with_people = {one["image_id"] for one in drawn}
    people = {
        "images": [image for key, image in images.items() if key in with_people],
        "annotations": drawn,
        "categories": persons,
    }
    return people, [image for key, image in images.items() if key not in with_people]


def fetch(annotations: list[Path], out: Path, licences: set[int]) -> tuple[int, int]:
    """Write photos and masks to `out`; returns the numbers with and without people.

    Raises requests.RequestException if a photo can't be downloaded.
    """
    names = {name for name, licence in listed().items() if licence in licences}
    people: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    empty: list[dict[str, Any]] = []
    for path in annotations:
        some, others = select(json.loads(path.read_text()), names)
        empty += others
        people = {
            "images": people["images"] + some["images"],
            "annotations": people["annotations"] + some["annotations"],
            "categories": some["categories"],
        }
    for folder, images in ((out / "people" / "img", people["images"]), (out / "empty" / "img", empty)):
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(partial(_download, folder), images))
    write_whole(out / "people" / "annotations.json", json.dumps(people))
    return len(people["images"]), len(empty)


def _download(folder: Path, image: dict[str, Any]) -> None:
    path = folder / Path(image["file_name"]).name
    if path.exists():
        return
    answer = requests.get(image["coco_url"], timeout=TIMEOUT_SECONDS)
    answer.raise_for_status()
    write_whole(path, answer.content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, nargs="+", metavar="INSTANCES_JSON")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--licences", type=int, nargs="+", default=list(range(1, 9)), help="default: all")
    given = parser.parse_args()
    with_people, without = fetch(given.annotations, given.out, set(given.licences))
    print(f"{given.out}: {with_people} photos with people, {without} without")
