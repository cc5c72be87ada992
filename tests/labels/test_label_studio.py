"""Label Studio's JSON to masks, against Label Studio's own converter."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from humanseg.archive.read.export_formats import brush_rle
from humanseg.labels.brush import decode_brush
from humanseg.labels.drawn import LabelError, Options, Reading
from humanseg.labels.home import read_labels_file
from humanseg.labels.label_studio import read_label_studio

Sdk = Callable[[str, Any], Any]


def brush(mask: np.ndarray, labels: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    value = {"format": "rle", "rle": brush_rle(mask > 0), **({} if labels is None else {"brushlabels": labels})}
    return {
        "type": "brushlabels",
        "from_name": "mask",
        "to_name": "image",
        "original_width": mask.shape[1],
        "original_height": mask.shape[0],
        "image_rotation": 0,
        "value": value,
        **changes,
    }


def task(*annotations: dict[str, Any], number: int = 1) -> dict[str, Any]:
    data = {"image": f"/data/local-files/?d=img/{number:020x}.jpg", "request_id": f"request-{number}"}
    return {"id": number, "data": data, "annotations": list(annotations), "predictions": []}


def annotation(*regions: dict[str, Any], number: int = 7, who: Any = 3, **more: Any) -> dict[str, Any]:
    return {"id": number, "completed_by": who, "was_cancelled": False, "result": list(regions), **more}


def read(*tasks: dict[str, Any], **options: Any) -> Reading:
    return read_label_studio("export.json", list(tasks), Options(**options))


def only(reading: Reading) -> np.ndarray:
    assert reading.refused == []
    assert len(reading.masks) == 1
    assert reading.masks[0].mask is not None
    return reading.masks[0].mask


def test_a_brush_is_read_as_label_studios_own_converter_reads_and_writes_it(
    label_studio_sdk: Sdk, ring: np.ndarray
) -> None:
    noise = np.where(np.random.default_rng(0).random((23, 17)) > 0.5, 255, 0).astype(np.uint8)  # literal runs
    full = np.full((300, 200), 255, np.uint8)  # longer than the longest run
    masks = [ring, noise, full]
    theirs = label_studio_sdk(
        "answer = [brush.mask2rle(np.array(mask, np.uint8)) for mask in given]", [mask.tolist() for mask in masks]
    )
    for mask, rle in zip(masks, theirs, strict=True):
        assert (decode_brush(rle, mask.shape[1], mask.shape[0]) == mask).all()
    ours = [brush_rle(mask > 0) for mask in masks]
    read_back = label_studio_sdk("answer = [brush.decode_rle(rle).tolist() for rle in given]", ours)
    for mask, flat in zip(masks, read_back, strict=True):
        assert (np.array(flat).reshape(*mask.shape, 4)[:, :, 3] == mask).all()


@given(st.binary(min_size=0, max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_no_stream_of_bytes_breaks_the_brush_decoder(data: bytes, width: int, height: int) -> None:
    header = (4 * width * height).to_bytes(4, "big") + bytes([0b00111001, 0b00011011, 0b11111000])
    for stream in (data, header + data):
        with contextlib.suppress(LabelError):
            assert decode_brush(list(stream), width, height).shape == (height, width)


def test_regions_of_one_annotation_are_joined_and_name_the_photo(ring: np.ndarray) -> None:
    corner = np.zeros_like(ring)
    corner[:5, :5] = 255
    polygon = brush(ring, type="polygonlabels")
    polygon["value"] = {"points": [[50, 50], [100, 50], [100, 100], [50, 100]], "polygonlabels": ["Person"]}
    bag = brush(np.full_like(ring, 255), ["bag"])
    reading = read(task(annotation(brush(ring, ["person"]), brush(corner, ["person"]), polygon, bag)))
    mask = only(reading)
    expected = np.maximum(ring, corner)
    assert (mask[:20, :30] == expected[:20, :30]).all()
    assert (mask[21:, 32:] == 255).all()
    photo = reading.masks[0].photo
    assert (photo.request_id, photo.stem, reading.masks[0].annotator) == ("request-1", f"{1:020x}", "3")


def test_a_brush_without_labels_is_a_person(ring: np.ndarray) -> None:
    assert (only(read(task(annotation(brush(ring))))) == ring).all()


def test_a_bitmask_is_read(ring: np.ndarray) -> None:
    file = io.BytesIO()
    alpha = Image.fromarray(np.dstack([np.full_like(ring, 9)] * 3 + [ring]))
    alpha.save(file, "png")
    region = brush(ring, type="bitmask")
    region["value"] = {"imageDataURL": "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()}
    assert (only(read(task(annotation(region)))) == ring).all()


def test_json_min_is_read(ring: np.ndarray) -> None:
    region = brush(ring)
    flat = {**region["value"], "brushlabels": ["person"], "original_width": 61, "original_height": 40}
    row = {"id": 4, "annotation_id": 9, "image": "s3://b/in/a.jpg", "mask": [flat], "annotator": 2, "lead_time": 3.5}
    reading = read(row)
    assert (only(reading) == ring).all()
    assert reading.masks[0].photo.file == "a.jpg"
    assert reading.masks[0].annotator == "2"
    unopened = read({"id": 5, "image": "b.jpg", "mask": None, "annotation_id": None}, empty_is_nobody=True)
    assert [photo.reason for photo in unopened.skipped] == ["not labelled"], "nobody said that nobody is in it"


def test_cancelled_and_empty_annotations_are_skipped_and_empty_can_mean_nobody(ring: np.ndarray) -> None:
    cancelled = annotation(brush(ring, ["person"]), was_cancelled=True)
    rows = task(cancelled), task(annotation(), number=2), task(annotation(brush(ring, ["bag"])), number=3)
    reading = read(*rows)
    assert [photo.reason for photo in reading.skipped] == ["cancelled", "empty"]
    assert [mask.mask for mask in reading.masks] == [None], "a photo with a bag alone shows nobody"
    assert [photo.photo.request_id for photo in read(*rows, empty_is_nobody=True).masks] == ["request-2", "request-3"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"original_width": 60}, "has 2440 pixels, but the region has 2400"),
        ({"original_width": None}, "original_width"),
        ({"image_rotation": 90}, "rotated by 90"),
        ({"type": "rectanglelabels"}, "which is not a mask"),
        ({"value": {"format": "rle", "rle": [2, 900, 3] * 9}}, "not Label Studio's"),
        ({"value": {"format": "rle"}}, "no run-lengths"),
        ({"value": {"rle": "5X1"}}, "not a list of numbers"),
        ({"value": None}, "invalid Label Studio export"),
    ],
)
def test_what_is_no_mask_is_refused_with_task_and_reason(
    ring: np.ndarray, change: dict[str, Any], reason: str
) -> None:
    reading = read(task(annotation(brush(ring, ["person"], **change)), number=5))
    assert reading.masks == []
    assert len(reading.refused) == 1
    assert str(reading.refused[0]).startswith("export.json: task 5 annotation 7: ")
    assert reason in reading.refused[0].reason


def test_a_stream_longer_or_shorter_than_its_picture_is_refused(ring: np.ndarray) -> None:
    rle = brush_rle(ring > 0)
    with pytest.raises(LabelError, match="truncated"):
        decode_brush(rle[:-8], 61, 40)
    longer = (8).to_bytes(4, "big") + bytes([0b00111001, 0b00011011, 0b11111111, 0b11111111, 0b11111111, 255, 255])
    with pytest.raises(LabelError, match="longer than the picture"):
        decode_brush(list(longer), 2, 1)


def test_pngs_of_label_studios_export_find_their_photo_through_the_json(
    label_studio_sdk: Sdk, ring: np.ndarray, tmp_path: Path
) -> None:
    corner = np.zeros_like(ring)
    corner[:5, :5] = 255
    regions = [brush(ring, ["person"]), brush(corner, ["person"]), brush(np.full_like(ring, 255), ["bag"])]
    flat = [{**region, **region["value"]} for region in regions]
    item = {"id": 5, "annotation_id": 7, "completed_by": {"email": "ada@example.org"}, "output": {"mask": flat}}
    folder = tmp_path / "export"
    folder.mkdir()
    label_studio_sdk("brush.convert_task(given[0], given[1], out_format='png'); answer = 1", [item, str(folder)])
    assert len(list(folder.glob("task-5-annotation-7-by-ada@example.org-mask-*.png"))) == 3
    reading = read_labels_file(folder)
    assert "the photo of task 5 is unknown" in reading.refused[0].reason
    (folder / "project.json").write_text(json.dumps([task(annotation(*regions), number=5)]))
    reading = read_labels_file(folder)
    assert (only(reading) == np.maximum(ring, corner)).all()
    assert (reading.masks[0].photo.request_id, reading.masks[0].annotator) == ("request-5", "ada@example.org")
