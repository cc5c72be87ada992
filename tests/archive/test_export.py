"""`humanseg archive export`: each photo once, in four formats, for training."""

from __future__ import annotations

import io
import json
import tarfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from humanseg.archive.capture.rewrite import rewrite_as_png
from humanseg.segmentation.photo import read_photo
from tests.archive import photos
from tests.archive.commands import Run, archive_photos, inverted, put_uncommitted
from tests.archive.helpers import NOON, Bucket


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
