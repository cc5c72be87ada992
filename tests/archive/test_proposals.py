"""Corrected masks that users send back: in the spool, in the bucket, accepted by a person, exported, erased."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

import humanseg.archive.capture.correction as capture
from humanseg.archive.capture.correction import Correction, StoredCorrection, build_correction, decode
from humanseg.archive.capture.hook import Archive, Outcome
from humanseg.archive.capture.spool import records_of
from humanseg.archive.read.compact import compact
from humanseg.archive.read.verify import verify
from humanseg.archive.ship import groups
from tests.archive.helpers import NOON, Bucket, exchange
from tests.archive.shipping import spool_at, uploader_for, writer

Run = Callable[..., Result]
SCHEMA = json.loads((Path(capture.__file__).parent / "correction.schema.json").read_text())


def drawn(width: int = 96, height: int = 64, to: int = 20) -> bytes:
    """A mask whose left `to` columns are a person."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, :to] = 255
    out = io.BytesIO()
    Image.fromarray(mask).save(out, "PNG")
    return out.getvalue()


def correction(
    of: str, mask: bytes | None = None, time: datetime = NOON, size: tuple[int, int] = (96, 64)
) -> Correction:
    return Correction(str(uuid.uuid4()), of, time, drawn(*size) if mask is None else mask, *size)


def spool(state_dir: Path, *corrections: Correction, photos: int = 2) -> list[str]:
    """Ids of photos that lie with these corrections (of the first of them: "first") in one sealed segment."""
    archive = writer(state_dir)
    exchanges = [exchange(number) for number in range(photos)]
    for photo in exchanges:
        assert archive.keep(photo) is Outcome.SPOOLED
    for correction in corrections:
        of = exchanges[0].request_id if correction.of == "first" else correction.of
        sent = Correction(
            correction.request_id, of, correction.time, correction.mask, correction.width, correction.height
        )
        assert archive.keep_correction(sent) is Outcome.SPOOLED
    archive.close()
    return [exchange.request_id for exchange in exchanges]


def ship(state_dir: Path, bucket: Bucket) -> None:
    assert uploader_for(state_dir, bucket).drain(60).left.segments == 0


def test_the_json_of_a_correction_is_as_its_schema_says() -> None:
    stored = build_correction(correction("some-photo")).stored
    assert isinstance(stored, StoredCorrection)
    text = stored.to_json()
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(text))
    assert decode(text) == stored
    with pytest.raises(ValueError, match="other fields"):
        StoredCorrection.from_json(text.replace('"of"', '"off"'))
    with pytest.raises(ValueError, match="request id"):
        build_correction(correction("../somebody"))


def test_photos_and_corrections_of_one_segment_part_on_their_way(bucket: Bucket, tmp_path: Path) -> None:
    first, second = spool(tmp_path, correction("first"), photos=2)
    [segment] = spool_at(tmp_path).sealed()
    assert [record.photo_id for record in records_of(segment)] == [first, second, first]
    ship(tmp_path, bucket)
    assert bucket.ids() == [first, second]
    [row] = [row for table in bucket.reader.corrections.days_rows() for row in table.to_pylist()]
    assert (row["of"], row["width"], row["height"]) == (first, 96, 64)
    keys = sorted(key.rpartition("/")[0] for key in bucket.objects())
    assert keys == [
        "v2/corrections/records/dt=2026-11-20/hour=12",
        "v2/corrections/segments/dt=2026-11-20/hour=12",
        "v2/records/dt=2026-11-20/hour=12",
        "v2/segments/dt=2026-11-20/hour=12",
    ]
    state = verify(bucket.reader)
    assert (state.records, state.problems, state.uncommitted) == (3, [], [])


def test_an_upload_that_is_repeated_puts_the_same_bytes(bucket: Bucket, tmp_path: Path) -> None:
    spool(tmp_path, correction("first"))
    there = spool_at(tmp_path)
    there.make_folders()
    group = groups.fix(there, there.sealed())
    assert group
    first, second = groups.read(group), groups.read(group)
    assert isinstance(first, groups.Contents)
    assert isinstance(second, groups.Contents)
    assert first.of_kind(StoredCorrection).data == second.of_kind(StoredCorrection).data
    uploader_for(tmp_path, bucket)._put(group, first)
    before = bucket.objects()
    uploader_for(tmp_path, bucket)._put(group, second)
    assert bucket.objects() == before


def test_an_archive_that_is_off_keeps_no_correction(tmp_path: Path) -> None:
    archive = writer(tmp_path, mode="off")
    assert archive.keep_correction(correction("some-photo")) is Outcome.DECLINED
    assert spool_at(tmp_path).is_empty()


def test_a_correction_that_finds_no_room_counts_as_no_photo(tmp_path: Path) -> None:
    archive = writer(tmp_path, spool_max_bytes=1_048_576)
    large = correction("some-photo", np.random.default_rng(1).bytes(2_000_000))
    assert archive.keep_correction(large) is Outcome.DROPPED
    assert archive.keep(exchange(1)) is Outcome.SPOOLED
    archive.close()
    [record] = records_of(spool_at(tmp_path).sealed()[0])
    assert record.passed_over_dropped == 0  # type: ignore[union-attr]


def test_what_is_sent_waits_until_a_person_accepts_it(bucket: Bucket, run: Run, tmp_path: Path) -> None:
    later = correction("first", drawn(to=30), NOON + timedelta(minutes=5))
    first, second = spool(tmp_path, correction("first"), later)
    ship(tmp_path, bucket)
    assert json.loads(run("proposals", "--json").stdout) == [
        {"time": "2026-11-20T12:05:00", "photo": first, "size": "96x64", "state": "proposed"}
    ]
    assert "proposed" in run("ls").stdout
    export = ("export", "--since", "2026-11-01")
    run(*export, "--to", "before")
    assert {row["mask_source"] for row in manifest(tmp_path / "before")} == {"model"}
    run("show", first, "--proposed", "--to", "look.png")
    shown = np.array(Image.open(tmp_path / "look.png").convert("L"))
    width = (shown.shape[1] - 20) // 3
    middle = shown[:, width + 10 : 2 * width + 10] > 127
    assert abs(middle.mean() - 30 / 96) < 0.01
    assert "1 corrected masks are now labels" in run("accept", first, "--by", "ada").stdout
    assert json.loads(run("proposals", "--json").stdout) == []
    assert "accepted" in run("ls").stdout
    run(*export, "--to", "after")
    rows = {row["request_ids"][0]: row for row in manifest(tmp_path / "after")}
    assert rows[first]["mask_source"] == "corrected"
    assert rows[first]["corrected_by"] == "page, ada"
    assert rows[second]["mask_source"] == "model"
    assert (tmp_path / "after" / "mask" / f"{rows[first]['name']}.png").read_bytes() == later.mask
    run("accept", first, "--by", "ada")  # once more: nothing changes
    labels = [row for table in bucket.reader.labels.days_rows() for row in table.to_pylist()]
    assert len(labels) == 1


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (correction("first", size=(95, 64)), "another size"),
        (correction("nobody-knows-this"), "no committed record"),
        (correction("first", b"no PNG"), "can't be read"),
    ],
)
def test_what_can_be_no_mask_of_its_photo_is_not_accepted(
    bucket: Bucket, run: Run, tmp_path: Path, sent: Correction, message: str
) -> None:
    first, _ = spool(tmp_path, sent)
    ship(tmp_path, bucket)
    named = first if sent.of == "first" else sent.of
    assert message in str(run("accept", named, "--by", "ada", status=1).exception)
    assert [key for key in bucket.objects() if key.startswith("labels/")] == []


def test_accept_takes_all_or_none(bucket: Bucket, run: Run, tmp_path: Path) -> None:
    first, second = spool(tmp_path, correction("first"))
    ship(tmp_path, bucket)
    result = run("accept", first, second, "--by", "ada", status=1)
    assert f"{second}: no correction" in str(result.exception)
    assert [key for key in bucket.objects() if key.startswith("labels/")] == []


@pytest.mark.parametrize("shipped", [True, False])
def test_who_erases_the_photo_erases_its_corrections(bucket: Bucket, run: Run, tmp_path: Path, shipped: bool) -> None:
    first, second = spool(tmp_path, correction("first"), correction("another-photo"))
    if shipped:
        ship(tmp_path, bucket)
        run("accept", first, "--by", "ada")
    assert json.loads(run("erase", first, "--yes", "--json").stdout)[0]["request_id"] == first
    if not shipped:
        ship(tmp_path, bucket)
    assert bucket.ids() == [second]
    left = [row["of"] for table in bucket.reader.corrections.days_rows() for row in table.to_pylist()]
    assert left == ["another-photo"]
    kept = [bucket.reader.get(key) for key in bucket.reader.keys_under(f"{bucket.store.destination.prefix}/")]
    assert not any(first.encode() in data for data in kept if not data.startswith(b'{"time"'))
    assert verify(bucket.reader).problems == []


def test_corrections_are_compacted_and_asked_in_sql(bucket: Bucket, run: Run, tmp_path: Path) -> None:
    for _ in range(3):
        spool(tmp_path, correction("first"), photos=1)
        ship(tmp_path, bucket)
    compact(bucket.reader, now=datetime(2026, 12, 1, tzinfo=timezone.utc))
    assert len([key for key in bucket.objects() if key.startswith("v2/corrections/segments/")]) == 1
    output = run(
        "query", "SELECT count(*) AS n FROM corrections JOIN records ON corrections.of = records.request_id", "--json"
    )
    assert json.loads(output.stdout) == {"n": 3}
    assert verify(bucket.reader).problems == []


def test_a_writer_that_dies_in_a_correction_loses_that_one_alone(tmp_path: Path) -> None:
    archive: Archive = writer(tmp_path)
    assert archive.keep_correction(correction("some-photo")) is Outcome.SPOOLED
    assert archive.keep_correction(correction("some-photo")) is Outcome.SPOOLED
    [path] = spool_at(tmp_path).open_segments()
    archive.close()
    [sealed] = spool_at(tmp_path).sealed()
    torn = sealed.rename(path)
    torn.write_bytes(torn.read_bytes()[:-700])
    assert spool_at(tmp_path).seal_orphans() == 1
    assert len(records_of(spool_at(tmp_path).sealed()[0])) == 1
