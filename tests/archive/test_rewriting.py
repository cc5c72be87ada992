"""Compacting and erasing: each record is there exactly once at every moment, and what is erased is gone for good."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from humanseg.archive.capture.hook import Outcome
from humanseg.archive.capture.names import parse_name
from humanseg.archive.read import rewriting
from humanseg.archive.read.compact import compact
from humanseg.archive.read.erasing import erase
from humanseg.archive.read.query import query
from humanseg.archive.read.reader import Damaged, Gone, Reader
from humanseg.archive.read.rewriting import Busy, lease
from humanseg.archive.ship import groups
from tests.archive.helpers import NOON, Bucket, digest, exchange
from tests.archive.shipping import fill, spool_at, uploader_for, wait_for, waiting, writer

LATER = datetime(2026, 12, 1, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def ship(state_dir: Path, bucket: Bucket, number: int, **changes: Any) -> dict[str, str]:
    """`number` records in the bucket, as one segment."""
    acknowledged = fill(state_dir, number, **changes)
    assert uploader_for(state_dir, bucket).drain(60).left.segments == 0
    return acknowledged


def ship_many(state_dir: Path, bucket: Bucket, segments: int = 4) -> dict[str, str]:
    """Three records in each of `segments` segments of an hour, and one segment in the next."""
    acknowledged = {}
    for number in range(segments):
        acknowledged |= ship(state_dir, bucket, 3, start=3 * number, time=NOON + timedelta(minutes=number))
    return acknowledged | ship(state_dir, bucket, 2, start=100, time=NOON + HOUR)


def tars(bucket: Bucket) -> list[str]:
    return [key for key in bucket.objects() if key.startswith("v2/segments/")]


def versions(bucket: Bucket, contains: str = "") -> list[str]:
    """All keys that there are in any version, delete markers included."""
    prefix = f"{bucket.store.destination.prefix}/"
    return [key for key, _ in rewriting.versions_under(bucket.reader, prefix) if contains in key]


class Killed(BaseException):
    """What a test raises where a process would be killed."""


def killed_at(call: int, client: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Lets `call` changing requests through, and none after; returns how many there were."""
    seen = [0]
    for name in ("put_object", "delete_objects"):
        real = getattr(client, name)

        def counted(real: Callable[..., Any] = real, **arguments: Any) -> Any:
            if seen[0] >= call:
                raise Killed
            seen[0] += 1
            return real(**arguments)

        monkeypatch.setattr(client, name, counted)
    return lambda: seen[0]


def test_compaction_merges_the_segments_of_closed_hours(tmp_path: Path, bucket: Bucket) -> None:
    acknowledged = ship_many(tmp_path, bucket)
    before = {row["request_id"]: row for row in bucket.rows()}
    early = compact(bucket.reader, now=NOON + timedelta(hours=12))
    assert (early.merged, len(tars(bucket))) == (0, 5), "that day is not over"
    result = compact(bucket.reader, now=LATER)
    assert (result.merged, result.into, result.leftovers, result.problems) == (4, 1, 0, [])
    assert len(tars(bucket)) == 2
    bucket.assert_holds(acknowledged)
    for row in bucket.rows():
        photo, _ = bucket.reader.photo_and_mask(row)
        assert digest(photo) == acknowledged[row["request_id"]]
        moved = {"segment", "photo_offset", "mask_offset", "json_offset", "replaces"}
        assert all(row[name] == value for name, value in before[row["request_id"]].items() if name not in moved)
    again = compact(bucket.reader, now=LATER)
    assert (again.merged, again.leftovers) == (0, 0)
    assert not [key for key in versions(bucket) if "rewriting" in key], "the lease is given back"


@pytest.mark.slow
def test_compaction_keeps_to_its_size_and_to_its_days(tmp_path: Path, bucket: Bucket) -> None:
    acknowledged = ship_many(tmp_path, bucket)
    size = len(bucket.reader.get(f"{bucket.store.destination.prefix}/{tars(bucket)[0]}"))
    assert compact(bucket.reader, since=NOON + 24 * HOUR, now=LATER).merged == 0
    assert compact(bucket.reader, now=LATER, segment_bytes=2 * size + 100).into == 2
    assert len(tars(bucket)) == 3
    bucket.assert_holds(acknowledged)


@pytest.mark.slow
def test_compaction_killed_anywhere_is_finished_by_the_next(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of its changing requests; the records are there once before and after the next run."""
    acknowledged: dict[str, str] = {}
    for call in range(1, 20):
        for minute in (2 * call, 2 * call + 1):
            acknowledged |= ship(tmp_path, bucket, 1, time=NOON + timedelta(minutes=minute))
        with monkeypatch.context() as patch:
            killed_at(call, bucket.store.client, patch)
            finished = False
            try:
                compact(bucket.reader, now=LATER)
                finished = True
            except Killed:
                pass
        assert sorted(bucket.ids()) == sorted(acknowledged), f"killed after {call} requests"
        monkeypatch.setattr(rewriting, "parse_time", lambda text: NOON)  # its lease has run out
        compact(bucket.reader, now=LATER)
        monkeypatch.undo()
        bucket.assert_holds(acknowledged)
        assert sorted(bucket.ids()) == sorted(acknowledged)
        if finished:
            break
    assert finished, "no run got through: the kills did not reach the end"


@pytest.mark.slow
def test_a_reader_beside_a_compaction_sees_each_record_exactly_once(tmp_path: Path, bucket: Bucket) -> None:
    acknowledged = ship_many(tmp_path, bucket, 12)
    over = threading.Event()
    seen: list[Exception | str] = []

    def read() -> None:
        reader = Reader(bucket.store)
        while not over.is_set():
            try:
                rows = [row for table in reader.records.days_rows() for row in table.to_pylist()]
                assert sorted(row["request_id"] for row in rows) == sorted(acknowledged)
                for row in rows[:3]:
                    photo, _ = reader.photo_and_mask(row)
                    assert digest(photo) == acknowledged[row["request_id"]], "another photo"
                count = query(reader, "SELECT count(*), count(DISTINCT request_id) FROM records").rows[0]
                assert count == (len(acknowledged), len(acknowledged))
                seen.append("read")
            except Exception as error:
                seen.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    wait_for(lambda: bool(seen))
    size = 2 * len(bucket.reader.get(f"{bucket.store.destination.prefix}/{tars(bucket)[0]}")) + 2000
    for factor in (1, 2, 4, 100):
        compact(Reader(bucket.store), now=LATER, segment_bytes=factor * size)
    over.set()
    thread.join()
    assert [outcome for outcome in seen if outcome != "read"] == []
    assert len(seen) > 3


def test_two_do_not_rewrite_at_a_time_and_a_lease_runs_out(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship_many(tmp_path, bucket, 2)
    with lease(bucket.reader) as held:
        with pytest.raises(Busy, match="has been rewriting the archive since"):
            compact(bucket.reader, now=LATER)
        with pytest.raises(Busy):
            erase(bucket.reader, spool_at(tmp_path), ["a1"])
        monkeypatch.setattr(rewriting, "parse_time", lambda text: NOON)
        assert compact(bucket.reader, now=LATER).merged == 2
        with pytest.raises(Busy, match="lost its lease"):
            held.check()


def test_what_is_damaged_is_left_where_it_is(tmp_path: Path, bucket: Bucket) -> None:
    ship_many(tmp_path, bucket, 2)
    row = bucket.rows()[0]
    data = bytearray(bucket.reader.get(row["segment"]))
    data[row["photo_offset"] + 500] ^= 1
    bucket.store.client.put_object(Bucket="archive", Key=row["segment"], Body=bytes(data))
    result = compact(bucket.reader, now=LATER)
    assert (result.merged, len(result.problems)) == (0, 1)
    assert bucket.reader.get(row["segment"]) == bytes(data)
    with pytest.raises(Damaged):
        bucket.reader.photo_and_mask(row)


def everything(bucket: Bucket) -> bytes:
    """All bytes of all versions of all objects."""
    prefix = f"{bucket.store.destination.prefix}/"
    versions = rewriting.versions_under(bucket.reader, prefix)
    return b"".join(bucket.reader.get(key, version) for key, version in versions if "/exports/" not in key)


@pytest.mark.slow
def test_erase_takes_records_labels_and_spool_copies_and_names_exports(
    tmp_path: Path, bucket: Bucket, run: Callable[..., Result]
) -> None:
    acknowledged = ship_many(tmp_path, bucket, 2)
    first, two, other = list(acknowledged)[:3]
    to = tmp_path / "data"
    run("export", "--to", to, "--since", "2026-11-01")
    run("import-labels", to, "--by", "ada", "--accept-unchanged")
    (waits,) = fill(tmp_path, 1)
    gone = [first, two, waits]
    photos = [bucket.reader.photo_and_mask(row)[0] for row in bucket.rows() if row["request_id"] in gone]
    erased = {row["request_id"]: row for row in json.loads(run("erase", *gone, "--yes", "--json").stdout)}
    assert {key.split("/")[2] for key in erased[first]["versions"]} >= {"segments", "records"}
    assert any("/labels/" in key for key in erased[first]["versions"])
    assert [note["folder"] for note in erased[first]["exports"]] == [str(to)]
    assert len(erased[waits]["spooled"]) == 1
    assert waiting(tmp_path) == []
    for request_id in (first, two):
        del acknowledged[request_id]
    bucket.assert_holds(acknowledged)
    assert set(bucket.ids()) == set(acknowledged)
    left = everything(bucket)
    assert all(request_id.encode() not in left for request_id in gone)
    assert all(photo not in left for photo in photos)
    assert other.encode() in left
    labelled = query(bucket.reader, "SELECT count(*) FROM labels").rows
    assert labelled == [(len(acknowledged),)]
    assert run("erase", first, "--yes", status=4).stdout.startswith(f"{first}: not found")


def test_several_ids_of_one_segment_cost_one_rewriting(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged = ship(tmp_path, bucket, 6)
    ids = list(acknowledged)
    put: list[str] = []
    real = bucket.store.client.put_object
    monkeypatch.setattr(bucket.store.client, "put_object", lambda **given: put.append(given["Key"]) or real(**given))
    erase(bucket.reader, spool_at(tmp_path), ids[:4])
    assert len([key for key in put if key.endswith(".tar")]) == 1
    assert sorted(bucket.ids()) == sorted(ids[4:])
    erase(bucket.reader, spool_at(tmp_path), ids[4:])
    assert len([key for key in put if key.endswith(".tar")]) == 1, "nothing is left to be written"
    assert versions(bucket, "/v2/") == []


def test_erase_reaches_a_record_wherever_it_stands_in_the_spool(tmp_path: Path, bucket: Bucket) -> None:
    """Open under a living writer, sealed, on its way, refused, and with its tar in the bucket already."""
    spool = spool_at(tmp_path)
    refused = fill(tmp_path, 2)
    group = groups.fix(spool, spool.sealed())
    assert group
    groups.reject(spool, group, "AccessDenied")
    half = fill(tmp_path, 2, start=2)
    group = groups.fix(spool, spool.sealed())
    assert group
    contents, name = groups.read(group), parse_name(group.name)
    assert isinstance(contents, groups.Contents) and name
    key = f"{bucket.reader.records.root}/segments/{name.partition}/{name.text}.tar"
    bucket.store.put_new(key, contents.data)
    sealed = fill(tmp_path, 2, start=4)
    archive = writer(tmp_path, segment_seconds=3600)
    opened = [exchange(6), exchange(7)]
    assert [archive.keep(item) for item in opened] == [Outcome.SPOOLED] * 2
    every = [*refused, *half, *sealed, *(item.request_id for item in opened)]
    gone = every[::2]
    erased = erase(bucket.reader, spool, gone)
    assert all(record.spooled for record in erased)
    assert sorted(waiting(tmp_path)) == sorted(every[1::2])
    assert versions(bucket, name.text) == [], "what was half put is gone as well"
    archive.close()
    groups.restore_rejected(spool)
    assert uploader_for(tmp_path, bucket).drain(30).left.segments == 0
    assert sorted(bucket.ids()) == sorted(every[1::2])
    bucket.assert_holds({})
    left = everything(bucket)
    assert all(request_id.encode() not in left for request_id in gone)


def test_erase_reaches_a_segment_that_was_never_committed(tmp_path: Path, bucket: Bucket) -> None:
    """Its uploader died between the two PUTs, and its machine with it."""
    first, other = fill(tmp_path / "gone", 2)
    spool = spool_at(tmp_path / "gone")
    group = groups.fix(spool, spool.sealed())
    assert group
    contents, name = groups.read(group), parse_name(group.name)
    assert isinstance(contents, groups.Contents) and name
    key = f"{bucket.reader.records.root}/segments/{name.partition}/{name.text}.tar"
    bucket.store.put_new(key, contents.data)
    (erased,) = erase(bucket.reader, spool_at(tmp_path), [first])
    assert key in erased.versions
    assert bucket.ids() == [other]
    assert first.encode() not in everything(bucket)
    # The machine was not dead after all: what it still puts is replaced.
    assert uploader_for(tmp_path / "gone", bucket).drain(30).left.segments == 0
    assert bucket.ids() == [other]


@pytest.mark.slow
def test_erase_in_a_versioned_bucket_leaves_no_old_version(tmp_path: Path, bucket: Bucket) -> None:
    client, name = bucket.store.client, f"v-{bucket.store.destination.prefix}"
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    bucket.environment["ARCHIVE_BUCKET"] = name
    object.__setattr__(bucket.store.destination, "bucket", name)
    erased_id, other = ship(tmp_path, bucket, 2)
    deleted = list(ship(tmp_path, bucket, 2, time=NOON + HOUR))
    first, *_, last = bucket.rows()
    client.put_object(Bucket=name, Key=first["segment"], Body=b"overwritten by hand")
    client.delete_object(Bucket=name, Key=first["segment"])
    table = last["segment"].replace("/segments/", "/records/").replace(".tar", ".parquet")
    for key in (table, last["segment"]):
        client.delete_object(Bucket=name, Key=key)
    assert len(bucket.ids()) == 2
    erased = erase(bucket.reader, spool_at(tmp_path), [erased_id, deleted[0]])
    assert erased[0].versions[first["segment"]] == 3, "two versions and the mark of a deletion"
    assert all(result.found for result in erased)
    assert bucket.ids() == [other]
    left = everything(bucket)
    assert erased_id.encode() not in left
    assert deleted[0].encode() not in left
    compact(bucket.reader, now=LATER)
    erase(bucket.reader, spool_at(tmp_path), [other])
    answer = client.list_object_versions(Bucket=name)
    assert answer.get("Versions", []) == answer.get("DeleteMarkers", []) == []


@pytest.mark.slow
def test_a_reader_in_the_middle_of_an_erasure_gets_the_right_photo_or_asks_again(
    tmp_path: Path, bucket: Bucket
) -> None:
    acknowledged = ship(tmp_path, bucket, 6)
    rows = bucket.rows()
    erase(bucket.reader, spool_at(tmp_path), [rows[0]["request_id"]])
    for row in rows[1:]:  # rows of before, whose segment is gone
        photo, _ = bucket.reader.photo_and_mask(row)
        assert digest(photo) == acknowledged[row["request_id"]]
    with pytest.raises(Gone, match="erased"):
        bucket.reader.photo_and_mask(rows[0])


def test_erase_waits_for_an_upload_under_way(tmp_path: Path, bucket: Bucket) -> None:
    (request_id,) = fill(tmp_path, 1)
    uploader = uploader_for(tmp_path, bucket)
    real, started = bucket.store.put_new, threading.Event()

    def slow(key: str, data: Any) -> bool:
        started.set()
        time.sleep(0.3)
        return real(key, data)

    uploader._store = bucket.store
    object.__setattr__(bucket.store, "put_new", slow)
    uploader.start()
    assert started.wait(20)
    (erased,) = erase(bucket.reader, spool_at(tmp_path), [request_id])
    uploader.stop()
    object.__setattr__(bucket.store, "put_new", real)
    assert erased.found
    assert bucket.ids() == []
    assert waiting(tmp_path) == []
    assert request_id.encode() not in everything(bucket)
