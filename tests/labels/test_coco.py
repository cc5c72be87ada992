"""COCO JSON to masks, against pycocotools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as pycoco

from humanseg.labels.coco import decompress, read_coco
from humanseg.labels.drawn import Options, Reading
from humanseg.labels.home import read_labels_file
from tests.labels.conftest import write


def content(*segmentations: Any, width: int = 61, height: int = 40, category: str = "person") -> dict[str, Any]:
    return {
        "images": [{"id": 4, "file_name": "train/a.jpg", "width": width, "height": height}],
        "categories": [{"id": 2, "name": category}, {"id": 3, "name": "bag"}],
        "annotations": [
            {"id": 10 + number, "image_id": 4, "category_id": 2, "segmentation": segmentation, "iscrowd": 0}
            for number, segmentation in enumerate(segmentations)
        ],
    }


def read(document: dict[str, Any], **options: Any) -> Reading:
    return read_coco("instances.json", document, Options(**options))


def only(reading: Reading) -> np.ndarray:
    assert reading.refused == []
    assert reading.masks[0].mask is not None
    return reading.masks[0].mask


def test_both_run_length_forms_with_a_hole_are_read_as_pycocotools_wrote_them(ring: np.ndarray) -> None:
    packed = pycoco.encode(np.asfortranarray(ring > 0))
    packed["counts"] = packed["counts"].decode()
    runs = {"size": [40, 61], "counts": decompress(packed["counts"])}
    assert (only(read(content(packed))) == ring).all()
    assert (only(read(content(runs))) == ring).all()


def test_polygons_are_joined_as_pycocotools_joins_them(ring: np.ndarray) -> None:
    contours, _ = cv2.findContours(ring, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outer = contours[0].ravel().astype(float).tolist()
    box = [1.5, 1.5, 9.0, 1.5, 9.0, 9.0, 1.5, 9.0]
    expected = pycoco.decode(pycoco.merge(pycoco.frPyObjects([outer, box], 40, 61)))
    mask = only(read(content([outer, box])))
    assert (mask == 255 * expected).all()
    assert (only(read(content([outer], [box]))) == mask).all(), "two annotations are joined as two polygons are"


@given(st.lists(st.booleans(), min_size=1, max_size=120), st.integers(1, 4))
def test_compressed_counts_come_back(flags: list[bool], height: int) -> None:
    mask = np.resize(np.array(flags, np.uint8), (height, len(flags)))
    packed = pycoco.encode(np.asfortranarray(mask))
    document = content({**packed, "counts": packed["counts"].decode()}, width=len(flags), height=height)
    assert (only(read(document)) > 0).tolist() == (mask > 0).tolist()


@given(st.binary(max_size=30))
def test_no_string_breaks_the_run_lengths(data: bytes) -> None:
    reading = read(content({"size": [3, 4], "counts": data.decode("latin-1")}, width=4, height=3))
    assert len(reading.masks) + len(reading.refused) == 1


def test_other_categories_do_not_count_and_an_empty_photo_is_nobody_only_when_asked() -> None:
    document = content()
    document["annotations"] = [{"id": 1, "image_id": 4, "category_id": 3, "segmentation": [[0, 0, 9, 0, 9, 9]]}]
    assert [photo.reason for photo in read(document).skipped] == ["empty"]
    assert read(document, empty_is_nobody=True).masks[0].mask is not None
    assert not only(read(document, empty_is_nobody=True)).any()


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ({"size": [40, 61], "counts": [0, 2441]}, "an RLE of 2441 pixels, but its photo has 2440"),
        ({"size": [40, 61], "counts": [100, 20]}, "an RLE of 120 pixels"),
        ({"size": [61, 40], "counts": [2440]}, "for a picture of 40x61"),
        ({"size": [40, 61], "counts": [2450, -10]}, "RLE of"),
        ({"size": [40, 61], "counts": "\u20ac"}, "not COCO's"),
        ([[1, 2, 3, 4]], "fewer than 3 points"),
        ([], "a box but no mask"),
    ],
)
def test_what_does_not_fit_the_photo_is_refused_with_image_and_reason(segmentation: Any, reason: str) -> None:
    reading = read(content(segmentation))
    assert reading.masks == []
    assert str(reading.refused[0]).startswith("instances.json: image 4 (train/a.jpg): annotation 10 ")
    assert reason in reading.refused[0].reason


def test_a_file_without_persons_or_with_lost_images_is_refused(tmp_path: Path) -> None:
    assert "only bag, cat" in read(content(category="cat")).refused[0].reason
    lost = content([[0, 0, 9, 0, 9, 9]])
    lost["annotations"][0]["image_id"] = 99
    assert "image 99 is not in the file" in read(lost).refused[0].reason
    odd = read_labels_file(write(tmp_path / "odd.json", {"shapes": []}))
    assert "neither Label Studio's JSON nor COCO's" in odd.refused[0].reason
