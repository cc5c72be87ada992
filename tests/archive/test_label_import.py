"""`humanseg archive import-labels` of an edited export: corrected masks become labels."""

from __future__ import annotations

import io
import json
import tarfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.archive import photos
from tests.archive.commands import Run, archive_photos, inverted, lines, lines_of
from tests.archive.helpers import NOON, Bucket


@pytest.mark.slow
def test_corrected_masks_go_back_and_win(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 3)
    archive_photos(tmp_path, bucket, 3, time=NOON + timedelta(hours=2))  # the same photos again
    to = tmp_path / "data"
    run("export", "--to", to, "--since", "2026-11-01")
    mask = sorted((to / "mask").iterdir())[0]
    inverted(mask)
    report = json.loads(run("import-labels", to, "--by", "ada", "--json").stdout)
    assert (len(report["uploaded"]), len(report["unchanged"])) == (1, 2)

    again = tmp_path / "again"
    run("export", "--to", again, "--since", "2026-11-01")
    rows = [json.loads(line) for line in (again / "manifest.jsonl").read_text().splitlines()]
    corrected = [row for row in rows if row["mask_source"] == "corrected"]
    assert [row["name"] for row in corrected] == [mask.stem]
    assert corrected[0]["corrected_by"] == "ada"
    with Image.open(again / "mask" / mask.name) as new, Image.open(mask) as drawn:
        np.testing.assert_array_equal(np.asarray(new), np.asarray(drawn))

    run("export", "--to", to, "--since", "2026-11-01")  # an older export takes the correction when run again
    only = tmp_path / "only"
    report = json.loads(run("export", "--to", only, "--since", "2026-11-01", "--corrected-only", "--json").stdout)
    assert (report["photos"], report["corrected"]) == (1, 1)

    inverted(mask)  # and a later correction wins over an earlier one
    run("import-labels", to, "--by", "bob")
    run("export", "--to", again, "--since", "2026-11-01")
    with Image.open(again / "mask" / mask.name) as new, Image.open(mask) as drawn:
        np.testing.assert_array_equal(np.asarray(new), np.asarray(drawn))


@pytest.mark.parametrize(
    ("pixels", "complaint"),
    [
        (np.zeros((10, 10), np.uint8), "its photo 96x64"),
        (np.arange(96 * 64, dtype=np.uint8).reshape(64, 96), "not binary"),
        (None, "can't be read"),
    ],
)
def test_a_bad_mask_is_named_and_nothing_is_uploaded(
    tmp_path: Path, bucket: Bucket, run: Run, pixels: np.ndarray | None, complaint: str
) -> None:
    ids = archive_photos(tmp_path, bucket, 2)
    folder = tmp_path / "masks"
    folder.mkdir()
    (folder / f"{ids[0]}.png").write_bytes(photos.mask_png())
    if pixels is None:
        (folder / f"{ids[1]}.png").write_bytes(b"no picture")
    else:
        Image.fromarray(pixels).save(folder / f"{ids[1]}.png")
    result = run("import-labels", folder, "--by", "ada", status=1)
    assert complaint in str(result.exception)
    assert [key for key in bucket.objects() if key.startswith("labels/")] == []


def test_names_in_a_manifest_are_checked(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 1)
    to = tmp_path / "data"
    run("export", "--to", to, "--since", "2026-11-01")
    (row,) = lines_of(to / "manifest.jsonl")
    bad: list[dict[str, Any]] = [{"name": name} for name in ("../../secret", "a/b", "..", "NAME")]
    bad += [{"request_ids": [name]} for name in ("../../secret", "a/b", "..", "NAME/..")]
    for fields in bad:
        (to / "manifest.jsonl").write_text(json.dumps({**row, **fields}) + "\n")
        for command in (("import-labels", to, "--by", "ada"), ("export", "--to", to, "--since", "2026-11-01")):
            error = str(run(*command, status=1).exception)
            assert "is not a manifest of `humanseg archive export`" in error, fields
    assert [key for key in bucket.objects() if key.startswith("labels/")] == []


def test_labels_lie_as_records_do(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    ids = archive_photos(tmp_path, bucket, 2)
    to = tmp_path / "data"
    run("export", "--to", to, "--since", "2026-11-01")
    run("import-labels", to, "--by", "ada", "--accept-unchanged")
    (tar,) = [key for key in bucket.objects() if key.startswith("labels/v2/segments/")]
    with tarfile.open(fileobj=io.BytesIO(bucket.reader.get(f"{bucket.store.destination.prefix}/{tar}"))) as opened:
        assert {member.name for member in opened} == {f"{name}.{end}" for name in ids for end in ("mask.png", "json")}
    asked = "SELECT request_id, corrected_by FROM labels JOIN records USING (request_id) ORDER BY 1"
    assert lines(run("query", asked, "--json")) == [
        {"request_id": request_id, "corrected_by": "ada"} for request_id in sorted(ids)
    ]
