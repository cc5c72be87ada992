"""`humanseg archive ...` on a real store: what people who use the archive can see, take out, put back and erase."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import Result

from humanseg.archive.capture.names import make_name, segment_key
from humanseg.archive.capture.rewrite import rewrite_as_png
from humanseg.archive.capture.tar import END
from humanseg.archive.read.retention import set_retention
from humanseg.archive.read.stats import COLUMNS, count
from humanseg.archive.ship import groups
from humanseg.archive.ship.store import BucketSettings, Store
from humanseg.segmentation.photo import read_photo
from tests.archive import photos
from tests.archive.helpers import NOON, SCHEMA, Bucket, exchange
from tests.archive.test_segment import RECORDS
from tests.archive.test_uploader import fill, spool_at, uploader_for, writer

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., Result]


def archive_photos(state_dir: Path, bucket: Bucket, number: int, **changes: Any) -> list[str]:
    """Ids of `number` records that are now in the bucket."""
    ids = list(fill(state_dir, number, **changes))
    assert uploader_for(state_dir, bucket).drain(60).left.segments == 0
    return ids


def put_uncommitted(bucket: Bucket) -> str:
    """A segment without a table, as a killed uploader leaves it; returns its key."""
    name = make_name(NOON, "0a0a0a0a", 1)
    key = segment_key(bucket.reader.records.root, name)
    bucket.store.put_new(key, b"".join(RECORDS[0].blocks) + END)
    return key


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_ls_lists_committed_records_by_day_model_confidence_and_label(
    tmp_path: Path, bucket: Bucket, run: Run
) -> None:
    old = archive_photos(tmp_path, bucket, 2, time=NOON - timedelta(days=3), label="booth 3")
    new = archive_photos(tmp_path, bucket, 2, confidence=0.2, model_version="2.0")
    put_uncommitted(bucket)
    whole = lines(run("ls", "--json"))
    assert {record["request_id"] for record in whole[:2]} == set(old)
    assert {record["request_id"] for record in whole} == {*old, *new}, "an uncommitted record is listed"
    assert (whole[0]["sampling_reason"], whole[0]["sampling_probability"]) == ("sample", 1.0)
    jsonschema.validate(whole[0], SCHEMA)

    def ids(*arguments: str) -> set[str]:
        return {line["request_id"] for line in lines(run("ls", "--json", *arguments))}

    assert ids("--date", "2026-11-17") == set(old)
    assert ids("--since", "2026-11-18") == set(new)
    assert ids("--until", "2026-11-20T12:00") == set(old)
    assert ids("--model", "2.0") == ids("--model", "human_segmentation/2.0") == set(new)
    assert ids("--below-confidence", "0.5") == set(new)
    assert ids("--label", "booth 3") == set(old)
    assert len(lines(run("ls", "--json", "--limit", "1"))) == 1
    assert new[0] in run("ls").stdout


def test_show_draws_photo_mask_and_both(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    (request_id,) = archive_photos(tmp_path, bucket, 1)
    result = run("show", request_id, "--to", tmp_path / "look.png")
    assert json.loads(result.stdout)["request_id"] == request_id
    with Image.open(tmp_path / "look.png") as sheet:
        assert sheet.size == (3 * 720 + 20, 480)
        sheet_pixels = np.asarray(sheet)
    assert (sheet_pixels[240, 730 + 360] == 255).all(), "the mask's middle is a person"
    run("show", request_id, "--date", "2026-11-20")
    assert (tmp_path / f"{request_id}.png").stat().st_mode & 0o077 == 0, (
        "a photo of a person is for its reader's eyes"
    )


def test_show_leaves_nothing_in_tmp_where_there_is_a_desktop(
    tmp_path: Path, bucket: Bucket, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (request_id,) = archive_photos(tmp_path, bucket, 1)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("DISPLAY", ":0")
    opened: list[str] = []
    monkeypatch.setattr("humanseg.cli.archive.typer.launch", lambda path: opened.append(path))
    run("show", request_id)
    assert opened == [f"{request_id}.png"]
    assert list(temporary.iterdir()) == []


def test_show_of_an_unknown_record_is_one_sentence(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    result = run("show", "not-there", status=1)
    assert "no committed record not-there" in str(result.exception)


def test_stats_weight_by_probability_and_know_who_declined(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive = writer(tmp_path)
    for _ in range(3):
        archive.keep(exchange(consent=False))
    archive.keep(exchange(1, coverage=0.4, confidence=0.9))
    assert uploader_for(tmp_path, bucket).drain(30).shipped == 1
    (day,) = json.loads(run("stats", "--since", "2026-11-01", "--png", tmp_path / "s.png", "--json").stdout)
    assert day["day"] == "2026-11-20"
    assert (day["records"], day["declined"], day["share_declined"]) == (1, 3, 0.75)
    assert (day["coverage"], day["confidence"]) == (0.4, 0.9)
    with Image.open(tmp_path / "s.png") as chart:
        assert chart.width >= 480
    assert "2026-11-20" in run("stats", "--since", "2026-11-01").stdout


def test_stats_of_a_sample_estimate_the_whole() -> None:
    values = {name: [0, 0] for name in COLUMNS}
    table = pa.table(
        {
            **values,
            "time": [NOON, NOON],
            "photo_sha256": ["ab", "ab"],
            "sampling_reason": ["sample", "low-confidence"],
            "coverage": [0.1, 0.9],
            "confidence": [0.5, 0.5],
            "sampling_probability": [0.1, 1.0],
        }
    )
    (day,) = count([table])
    assert day.coverage == pytest.approx((10 * 0.1 + 0.9) / 11)
    assert (day.records, day.different_photos, day.low_confidence) == (2, 1, 1)


def test_an_export_has_each_photo_once_and_trains(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 6)
    archive_photos(tmp_path, bucket, 3, time=NOON + timedelta(hours=1))  # the first three photos, sent again
    for kind in ("jpeg", "heic"):  # both are held upright, 64x96
        sent = photos.phone_photo(kind, orientation=6, seed=50)
        archive_photos(
            tmp_path,
            bucket,
            1,
            photo=sent,
            photo_format=kind,
            width=64,
            height=96,
            mask_png=lambda: photos.mask_png(64, 96),
        )
    put_uncommitted(bucket)
    to = tmp_path / "data"
    report = json.loads(run("export", "--to", to, "--since", "2026-11-01", "--json").stdout)
    assert (report["photos"], report["fetched"], report["problems"]) == (8, 8, [])
    rows = [json.loads(line) for line in (to / "manifest.jsonl").read_text().splitlines()]
    assert sorted(len(row["request_ids"]) for row in rows) == [1, 1, 1, 1, 1, 2, 2, 2]

    from humanseg.training.samples import Source, check, find_samples, held_out

    samples = find_samples(Source(to))
    assert len(samples) == 8
    assert check(samples) == []
    split = {sample.photo.name: "val" if held_out(sample, 0.1) else "train" for sample in samples}
    assert split == {row["photo"]: row["split"] for row in rows}, "training would split differently"


@pytest.mark.slow
def test_an_export_resumes_and_fetches_nothing_twice(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 5)
    to = tmp_path / "data"
    run("export", "--to", to, "--since", "2026-11-01")
    first = {path: path.read_bytes() for path in to.rglob("*.*") if path.parent.name in ("img", "mask")}
    next((to / "img").iterdir()).unlink()
    masks = sorted((to / "mask").iterdir())
    masks[0].write_bytes(b"cut off")
    (to / "manifest.jsonl").unlink()
    report = json.loads(run("export", "--to", to, "--since", "2026-11-01", "--json").stdout)
    assert report["photos"] == 5
    assert 1 <= report["fetched"] <= 2
    assert {path: path.read_bytes() for path in first} == first


@pytest.mark.slow
def test_an_export_never_overwrites_or_deletes_masks_that_somebody_corrected(
    tmp_path: Path, bucket: Bucket, run: Run
) -> None:
    archive_photos(tmp_path, bucket, 3)
    to = tmp_path / "data"
    run("export", "--to", to, "--since", "2026-11-01")
    mask, broken, _ = sorted((to / "mask").iterdir())
    inverted(mask)
    corrected = mask.read_bytes()
    before = sorted(to.rglob("*"))
    for since in ("2026-11-01", "2026-11-21"):  # chosen again, or no longer
        message = str(run("export", "--to", to, "--since", since, status=1).exception)
        assert "contains 1 corrected masks" in message
        assert mask.name in message
        assert "import-labels" in message
        assert mask.read_bytes() == corrected
        assert sorted(to.rglob("*")) == before
    run("import-labels", to, "--by", "ada")
    run("export", "--to", to, "--since", "2026-11-01")
    assert (np.asarray(Image.open(mask)) == np.asarray(Image.open(io.BytesIO(corrected)))).all()
    broken.write_bytes(b"half saved")
    run("export", "--to", to, "--since", "2026-11-01", status=1)
    assert broken.read_bytes() == b"half saved"
    broken.unlink()  # the way to have the archive's own again
    run("export", "--to", to, "--since", "2026-11-01")
    assert broken.is_file()


@pytest.mark.slow
def test_an_export_leaves_nothing_there_that_it_did_not_choose(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 3, time=NOON - timedelta(days=5))
    archive_photos(tmp_path, bucket, 1)  # the first of them, sent again
    to = tmp_path / "data"
    run("export", "--to", to, "--since", "2026-11-01")
    mine = to / "img" / "my-own-photo.jpg"
    mine.write_bytes(b"not ours to delete")
    since = (NOON - timedelta(days=1)).strftime("%Y-%m-%d")
    run("export", "--to", to, "--since", since)
    rows = [json.loads(line) for line in (to / "manifest.jsonl").read_text().splitlines()]
    assert {path.name for path in (to / "img").iterdir()} == {mine.name, *(row["photo"] for row in rows)}
    assert {path.stem for path in (to / "mask").iterdir()} == {row["name"] for row in rows}


@pytest.mark.slow
def test_a_segment_that_is_gone_is_left_out_and_named(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 2)
    archive_photos(tmp_path, bucket, 1, time=NOON + timedelta(hours=1))
    *_, last = bucket.rows()
    bucket.store.client.delete_object(Bucket="archive", Key=last["segment"])
    result = run("export", "--to", tmp_path / "data", "--since", "2026-11-01", status=1)
    assert "rewritten continuously" in str(result.exception) or last["request_id"] in result.stderr
    assert "is missing" in run("verify", status=1).stdout


def test_deep_grey_photos_train_as_they_were_served(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 64)[None].repeat(8, 0)
    for pixels in ((ramp * 65535).astype(np.uint16), ramp.astype(np.float32)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "TIFF")
        exported = np.array(Image.open(io.BytesIO(rewrite_as_png(file.getvalue()))).convert("RGB"))
        assert np.abs(exported.astype(int) - read_photo(file.getvalue()).pixels).max() <= 1


@pytest.mark.slow
def test_a_record_that_changed_in_the_bucket_is_left_out_and_named(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 3)
    row = bucket.rows()[1]
    data = bytearray(bucket.reader.get(row["segment"]))
    data[row["photo_offset"] + 500] ^= 1
    bucket.store.client.put_object(Bucket="archive", Key=row["segment"], Body=bytes(data))
    result = run("export", "--to", tmp_path / "data", "--since", "2026-11-01", status=1)
    assert row["request_id"] in result.stderr
    assert len(list((tmp_path / "data" / "img").iterdir())) == 2
    assert len((tmp_path / "data" / "manifest.jsonl").read_text().splitlines()) == 2
    output = run("verify", status=1).stdout
    assert f"{row['segment']}: {row['request_id']} is damaged or missing" in output


def test_verify_reads_everything(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 4)
    key = put_uncommitted(bucket)
    report = json.loads(run("verify", "--json").stdout)
    assert (report["records"], report["uncommitted"], report["problems"]) == (4, [key], [])


def test_an_export_takes_chosen_records_and_is_for_its_owner_alone(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    ids = archive_photos(tmp_path, bucket, 5)
    run("query", "SELECT request_id FROM records LIMIT 2", "--csv")
    (tmp_path / "ids").write_text("\n".join(["request_id", *ids[:2]]))
    to = tmp_path / "data"
    to.mkdir(mode=0o755)
    report = json.loads(
        run("export", "--to", to, "--since", "2026-11-01", "--ids", tmp_path / "ids", "--json").stdout
    )
    assert (report["photos"], report["problems"]) == (2, [])
    assert to.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_sql_is_answered_from_the_tables_and_changes_nothing(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 3, confidence=0.2)
    archive_photos(tmp_path, bucket, 2, time=NOON + timedelta(days=1))
    asked = "SELECT dt, hour, count(*) AS n, min(confidence) AS low FROM records GROUP BY ALL ORDER BY dt"
    assert lines(run("query", asked, "--json")) == [
        {"dt": "2026-11-20", "hour": "12", "n": 3, "low": 0.2},
        {"dt": "2026-11-21", "hour": "12", "n": 2, "low": 0.9},
    ]
    assert run("query", asked, "--csv").stdout.splitlines()[:2] == ["dt,hour,n,low", "2026-11-20,12,3,0.2"]
    assert "2026-11-21" in run("query", asked).stdout
    assert lines(run("query", "SELECT count(*) n FROM records", "--since", "2026-11-21", "--json")) == [{"n": 2}]
    first = lines(run("query", "SELECT time FROM records ORDER BY time LIMIT 1", "--json"))
    assert first == [{"time": "2026-11-20 12:00:00.250000+00:00"}]
    assert lines(run("query", "SELECT count(*) n FROM labels", "--json")) == [{"n": 0}]
    columns = {line.split(",")[1] for line in run("query", "--schema", "--csv").stdout.splitlines()[1:]}
    assert {"request_id", "coverage", "photo_offset", "dt", "corrected_by"} <= columns


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT nothing FROM records", "nothing"),
        ("DROP VIEW records", "one SELECT"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("COPY (SELECT 1) TO 'x.csv'", "Permission|one SELECT"),
        ("SELECT * FROM read_csv('/etc/hostname')", "Permission"),
        ("SELECT * FROM numbers", "numbers"),
    ],
)
def test_sql_that_is_no_question_is_refused(tmp_path: Path, bucket: Bucket, run: Run, sql: str, message: str) -> None:
    assert re.search(message, str(run("query", sql, status=1).exception))
    assert not (tmp_path / "x.csv").exists()


def inverted(path: Path) -> None:
    with Image.open(path) as image:
        pixels = 255 - np.asarray(image)
    Image.fromarray(pixels).save(path)


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


@pytest.mark.parametrize("name", ["../../secret", "a/b", "..", "NAME"])
@pytest.mark.parametrize("field", ["name", "request_ids"])
def test_names_in_a_manifest_are_checked(tmp_path: Path, bucket: Bucket, run: Run, name: str, field: str) -> None:
    archive_photos(tmp_path, bucket, 1)
    to = tmp_path / "data"
    run("export", "--to", to, "--since", "2026-11-01")
    (row,) = lines_of(to / "manifest.jsonl")
    row[field] = name if field == "name" else [f"{name}/.." if name == "NAME" else name]
    (to / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    for command in (("import-labels", to, "--by", "ada"), ("export", "--to", to, "--since", "2026-11-01")):
        assert "is not a manifest of `humanseg archive export`" in str(run(*command, status=1).exception)
    assert [key for key in bucket.objects() if key.startswith("labels/")] == []


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


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


def test_coco_is_read_by_pycocotools(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 3)
    archive_photos(
        tmp_path,
        bucket,
        1,
        photo=photos.phone_photo("jpeg", orientation=6, seed=50),
        width=64,
        height=96,
        mask_png=lambda: photos.mask_png(64, 96),
    )
    to = tmp_path / "coco"
    run("export", "--to", to, "--since", "2026-11-01", "--format", "coco", "--held-out", "0.5")
    from pycocotools.coco import COCO

    coco = COCO(str(to / "instances.json"))
    assert len(coco.getImgIds()) == 4
    wanted = {(96, 64): photos.mask_png(96, 64), (64, 96): photos.mask_png(64, 96)}
    for annotation in coco.loadAnns(coco.getAnnIds()):
        image = coco.loadImgs(annotation["image_id"])[0]
        mask = coco.annToMask(annotation)
        with Image.open(io.BytesIO(wanted[image["width"], image["height"]])) as drawn:
            np.testing.assert_array_equal(mask * 255, np.asarray(drawn))
        with Image.open(to / "img" / image["file_name"]) as photo:
            assert photo.size == (image["width"], image["height"]), "COCO's readers do not turn photos"
    parts = [COCO(str(to / "annotations" / f"instances_{name}.json")).getImgIds() for name in ("train", "val")]
    assert sorted(parts[0] + parts[1]) == coco.getImgIds()


def test_webdataset_shards_hold_photo_mask_and_record(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 5)
    to = tmp_path / "shards"
    run("export", "--to", to, "--since", "2026-11-01", "--format", "webdataset", "--held-out", "0.4")
    members = []
    for path in sorted(to.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                members.append((path.name.split("-")[0], member.name))
                data = tar.extractfile(member)
                assert data
                with data:
                    if member.name.endswith(".json"):
                        assert json.loads(data.read())["split"] == path.name.split("-")[0]
                    else:
                        with Image.open(data) as image:
                            image.load()
    assert len(members) == 15
    assert not (to / ".parts").exists()


def test_label_studio_brushes_decode_to_the_mask(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 1)
    to = tmp_path / "tasks"
    run("export", "--to", to, "--since", "2026-11-01", "--format", "label-studio")
    (task,) = json.loads((to / "tasks.json").read_text())
    (brush,) = task["predictions"][0]["result"]
    decoded = unpack_rle(brush["value"]["rle"]).reshape(64, 96, 4)
    with Image.open(io.BytesIO(photos.mask_png())) as drawn:
        np.testing.assert_array_equal(decoded[..., 3], np.asarray(drawn))
    assert (to / "img" / Path(task["data"]["image"]).name).exists()


def unpack_rle(data: list[int]) -> np.ndarray:
    """The decoder of thi.ng/rle-pack, written from its description: uint8 values."""
    bits = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def take(width: int) -> int:
        nonlocal at
        at += width
        return int(bits[at - width : at], 2)

    number, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < number:
        repeated, size = take(1), sizes[take(2)]
        length = take(size) + 1
        out += [take(word)] * length if repeated else [take(word) for _ in range(length)]
    return np.array(out, np.uint8)


def test_retention_sets_rules_and_keeps_those_of_others(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    client = bucket.store.client
    theirs = {
        "ID": "theirs",
        "Status": "Enabled",
        "Filter": {"Prefix": "other/"},
        "Expiration": {"Days": 7},
    }
    client.put_bucket_lifecycle_configuration(Bucket="archive", LifecycleConfiguration={"Rules": [theirs]})
    run("retention", 90)
    rules = {rule["ID"]: rule for rule in json.loads(run("retention", 30, "--json").stdout)}
    assert rules["theirs"]["Expiration"] == {"Days": 7}
    ours = rules[f"humanseg-{bucket.store.destination.prefix}-expire"]
    assert ours["Expiration"]["Days"] == 30
    assert ours["Filter"]["Prefix"] == f"{bucket.store.destination.prefix}/"
    assert ours["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 2
    assert len(rules) == 3, "setting it again replaced our rules"
    for prefix in ("-staging", "/a", "/a-b", "-a/b"):  # other archives in the same bucket
        name = bucket.store.destination.prefix + prefix
        destination = replace(bucket.store.destination, prefix=name)
        set_retention(Store(bucket.store.client, destination, BucketSettings()), 7)
    rules = {rule["ID"]: rule for rule in json.loads(run("retention", 20, "--json").stdout)}
    assert len(rules) == 3 + 4 * 2
    assert ours["Filter"] in [rule["Filter"] for rule in rules.values() if rule["Expiration"] == {"Days": 20}]
    assert "theirs" in run("retention").stdout


def test_ship_drains_and_retries_what_was_rejected(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    refused = fill(tmp_path, 1)
    spool = spool_at(tmp_path)
    group = groups.fix(spool, spool.sealed())
    assert group
    groups.reject(spool, group, "AccessDenied")
    acknowledged = fill(tmp_path, 2)
    first = json.loads(run("ship", "--drain", "--deadline", "30", "--json").stdout)
    assert (first["shipped"], first["left_segments"], first["left_rejected"]) == (2, 0, 1)
    second = json.loads(run("ship", "--drain", "--retry-rejected", "--json").stdout)
    assert (second["shipped"], second["left_rejected"]) == (1, 0)
    bucket.assert_holds({**acknowledged, **refused})


def test_a_drain_beside_a_running_worker_ships_what_it_has_open(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive = writer(tmp_path, segment_seconds=3600)
    assert archive.keep(exchange()).value == "spooled"
    assert len(spool_at(tmp_path).open_segments()) == 1
    assert json.loads(run("ship", "--drain", "--deadline", "30", "--json").stdout)["shipped"] == 1
    archive.close()


def test_a_listing_says_what_is_not_in_the_bucket_yet(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    fill(tmp_path, 1)
    for command in ("ls", "stats"):
        result = run(command)
        assert "not in the bucket yet" in result.stderr
        assert "archive ship --drain" in result.stderr
    run("ship", "--drain")
    assert run("ls").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ls", "--since", "yesterday"), "is not a time"),
        (("ls", "--date", "20.11.2026"), "is not a date"),
        (("erase", "../x", "--yes"), "request id"),
    ],
)
def test_a_wrong_argument_is_named(run: Run, arguments: tuple[str, ...], message: str) -> None:
    assert message in str(run(*arguments, status=1).exception)


@pytest.mark.slow
def test_a_store_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "ARCHIVE_BUCKET": "x",
        "ARCHIVE_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    command = [sys.executable, "-m", "humanseg.cli.main", "archive", "ls"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 1
    assert "the store can't be reached" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_help_is_quick_because_boto3_is_not_loaded() -> None:
    names = ("boto3", "numpy", "PIL", "torch", "pyarrow", "duckdb")
    code = f"import sys, humanseg.cli.archive; print([n for n in {names} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
