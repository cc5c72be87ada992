"""The listed photos of COCO: which are taken, downloaded once, and readable as a data set."""

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests

from humanseg.training.coco_photos import fetch, listed, select
from humanseg.training.samples import Source, find_samples

SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and counts."""

    answered = 0

    def log_message(self, *_: Any) -> None:
        Quiet.answered += 1


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A web server on loopback with the folder `site`."""
    (tmp_path / "site").mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "site"))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def named(licence: int, number: int) -> str:
    """A listed photo of this licence."""
    return [name for name, one in listed().items() if one == licence][number]


def annotations(tmp_path: Path, site: str, people: list[str], empty: list[str]) -> Path:
    """A COCO file like the official ones, whose photos the site has."""
    images, drawn = [], []
    for number, name in enumerate([*people, *empty, "000000999999"]):  # the last one is not listed
        photo = np.full((60, 80, 3), 90, np.uint8)
        cv2.imwrite(str(tmp_path / "site" / f"{name}.jpg"), photo)
        images.append(
            {"id": number, "file_name": f"{name}.jpg", "width": 80, "height": 60, "coco_url": f"{site}/{name}.jpg"}
        )
        drawn.append({"id": 2 * number, "image_id": number, "category_id": 18, "segmentation": [SQUARE]})  # a dog
        if name in people:
            drawn.append({"id": 2 * number + 1, "image_id": number, "category_id": 1, "segmentation": [SQUARE]})
    content = {
        "images": images,
        "annotations": drawn,
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_the_list_holds_no_photo_twice_and_none_that_is_measured_on() -> None:
    photos = listed()
    assert len(photos) > 1900
    assert set(photos.values()) <= set(range(1, 9))
    measured = Path(__file__).parents[3] / "shared" / "data"
    for folder in ("coco_people/val", "no_people"):
        assert not {path.stem for path in (measured / folder).glob("img/*")} & photos.keys()


def test_listed_photos_become_a_data_set_with_and_one_without_people(tmp_path: Path, site: str) -> None:
    person, nobody = named(4, 0), named(5, 1)
    source = annotations(tmp_path, site, [person], [nobody])
    assert fetch([source], tmp_path / "out", {4, 5}) == (1, 1)
    (sample,) = find_samples(Source(tmp_path / "out" / "people"))
    assert sample.photo.stem == person
    mask = sample.read()[1]
    assert (mask[15:25, 15:25] == 255).all()
    assert not mask[40:].any()
    (empty,) = find_samples(Source(tmp_path / "out" / "empty", kind="empty"))
    assert empty.photo.stem == nobody


def test_a_second_start_downloads_nothing_again(tmp_path: Path, site: str) -> None:
    source = annotations(tmp_path, site, [named(4, 0)], [named(4, 1)])
    fetch([source], tmp_path / "out", {4})
    answered = Quiet.answered
    assert fetch([source], tmp_path / "out", {4}) == (1, 1)
    assert Quiet.answered == answered


def test_photos_of_other_licences_are_left_out(tmp_path: Path, site: str) -> None:
    source = annotations(tmp_path, site, [named(4, 0), named(2, 0)], [named(3, 0)])
    assert fetch([source], tmp_path / "out", {4, 5, 7, 8}) == (1, 0)


def test_a_photo_that_is_gone_is_an_error(tmp_path: Path, site: str) -> None:
    source = annotations(tmp_path, site, [named(4, 0)], [])
    (tmp_path / "site" / f"{named(4, 0)}.jpg").unlink()
    with pytest.raises(requests.RequestException, match="404"):
        fetch([source], tmp_path / "out", {4})


def test_crowds_count_as_people() -> None:
    crowd = {"counts": [0, 16], "size": [4, 4]}
    name = named(4, 0)
    content = {
        "images": [{"id": 1, "file_name": f"{name}.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 1, "segmentation": crowd}],
        "categories": [{"id": 1, "name": "person"}],
    }
    people, empty = select(content, {name})
    assert len(people["images"]) == 1
    assert not empty
