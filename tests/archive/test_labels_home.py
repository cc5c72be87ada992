"""`humanseg archive import-labels` with what tools save: matched to its photo, all of it or nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from humanseg.archive.read.export_formats import brush_rle
from humanseg.archive.read.labels import read_labels
from tests.archive.commands import Run, archive_photos, lines_of
from tests.archive.helpers import Bucket


def half(left: bool = True) -> np.ndarray:
    mask = np.zeros((64, 96), np.uint8)
    mask[:, :48] = 255 * left
    mask[:, 48:] = 255 * (not left)
    return mask


def labelled(bucket: Bucket) -> dict[str, tuple[str, np.ndarray]]:
    """Who drew what, by the photo's hash."""
    labels = {}
    for digest, label in read_labels(bucket.reader).items():
        data = bucket.reader.get_range(label.segment, label.mask_offset, label.mask_offset + label.mask_bytes)
        labels[digest] = label.corrected_by, np.asarray(Image.open(io.BytesIO(data)))
    return labels


def brush(mask: np.ndarray) -> dict[str, Any]:
    value = {"format": "rle", "rle": brush_rle(mask > 0), "brushlabels": ["person"]}
    size = {"original_width": mask.shape[1], "original_height": mask.shape[0], "image_rotation": 0}
    return {"type": "brushlabels", "from_name": "mask", "to_name": "image", **size, "value": value}


def test_label_studios_answer_to_our_export_comes_home(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 4)
    run("export", "--to", tmp_path / "ls", "--since", "2026-11-01", "--format", "label-studio")
    tasks = json.loads((tmp_path / "ls" / "tasks.json").read_text())
    drawn, voted, nobody, cancelled = tasks
    drawn["annotations"] = [{"id": 1, "completed_by": {"email": "ada@example.org"}, "result": [brush(half())]}]
    voted["annotations"] = [
        {"id": 2 + number, "completed_by": number, "result": [brush(half(left))]}
        for number, left in enumerate((False, False, True))
    ]
    nobody["annotations"] = [{"id": 8, "completed_by": 1, "result": []}]
    cancelled["annotations"] = [{"id": 9, "completed_by": 1, "result": [brush(half())], "was_cancelled": True}]
    path = tmp_path / "project.json"
    path.write_text(json.dumps([{"id": 50 + number, **task} for number, task in enumerate(tasks)]))
    assert "agree by" in str(run("import-labels", path, "--by", "x", status=1).exception)
    assert labelled(bucket) == {}, "nothing half imported"
    report = json.loads(
        run("import-labels", path, "--by", "x", "--least-agreement", 0.3, "--empty-is-nobody", "--json").stdout
    )
    assert len(report["uploaded"]) == 3
    assert report["skipped"] == ["project.json: task 53 annotation 9: cancelled"]
    rows = {row["name"]: row for row in lines_of(tmp_path / "ls" / "manifest.jsonl")}
    masks = labelled(bucket)

    def mask_of(task: dict[str, Any]) -> tuple[str, np.ndarray]:
        return masks[rows[task["meta"]["name"]]["photo_sha256"]]

    assert mask_of(drawn)[0] == "ada@example.org"
    assert (mask_of(drawn)[1] == half()).all()
    assert (mask_of(voted)[1] == half(False)).all(), "most people say so"
    assert not mask_of(nobody)[1].any()


def test_a_coco_file_finds_photos_by_name_and_a_stranger_stops_all(
    tmp_path: Path,
    bucket: Bucket,
    run: Run,
) -> None:
    ids = archive_photos(tmp_path, bucket, 2)
    run("export", "--to", tmp_path / "coco", "--since", "2026-11-01", "--format", "coco")
    rows = {row["request_ids"][0]: row for row in lines_of(tmp_path / "coco" / "manifest.jsonl")}
    names = [f"images/{rows[ids[0]]['photo']}", f"{ids[1]}.jpg", "holiday.jpg"]
    content = {
        "images": [{"id": at, "file_name": name, "width": 96, "height": 64} for at, name in enumerate(names)],
        "categories": [{"id": 1, "name": "Mensch"}],
        "annotations": [
            {
                "id": at,
                "image_id": at,
                "category_id": 1,
                "segmentation": {"size": [64, 96], "counts": [0, 3072, 3072]},
            }
            for at in range(3)
        ],
    }
    path = tmp_path / "cvat.json"
    path.write_text(json.dumps(content))
    assert "only Mensch" in str(run("import-labels", path, "--by", "ada", status=1).exception)
    message = str(run("import-labels", path, "--by", "ada", "--label", "mensch", status=1).exception)
    assert "image 2 (holiday.jpg): the archive has no record of holiday.jpg" in message
    assert labelled(bucket) == {}
    content["images"].pop()
    content["annotations"].pop()
    path.write_text(json.dumps(content))
    run("import-labels", path, "--by", "ada", "--label", "mensch")
    masks = labelled(bucket)
    assert sorted(masks) == sorted(row["photo_sha256"] for row in rows.values())
    assert all(who == "ada" and (mask == half()).all() for who, mask in masks.values())


def test_a_mask_of_another_size_than_its_photo_is_refused(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    (request_id,) = archive_photos(tmp_path, bucket, 1)
    task = {"id": 1, "data": {"image": "a.jpg", "request_id": request_id}}
    task["annotations"] = [{"id": 2, "completed_by": 1, "result": [brush(half()[:32])]}]
    (tmp_path / "p.json").write_text(json.dumps([task]))
    message = str(run("import-labels", tmp_path / "p.json", "--by", "ada", status=1).exception)
    assert "p.json: task 1 annotation 2: is 96x32, its photo 96x64" in message
