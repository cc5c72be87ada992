"""What is in the spool reaches a real bucket exactly once, or is still in the spool."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from humanseg.archive.capture.hook import Outcome
from humanseg.archive.capture.names import parse_name
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import records_of
from humanseg.archive.capture.tar import END
from humanseg.archive.capture.telemetry import RateLimitedLog
from humanseg.archive.errors import Away
from humanseg.archive.ship.local_store import LocalStore
from humanseg.archive.ship.store import Store
from humanseg.archive.ship.uploader import Uploader
from tests.archive.faults import FaultyProxy
from tests.archive.helpers import NOON, Bucket, Numbers, bucket_of, clean_photo, digest, exchange
from tests.archive.shipping import fill, spool_at, uploader_for, wait_for, waiting, writer

pytestmark = pytest.mark.slow  # together about 60 s of waiting for what fails and comes back

ROOT = Path(__file__).resolve().parents[2]
HOUR = "dt=2026-11-20/hour=12"


def test_records_reach_the_bucket_and_leave_the_spool(tmp_path: Path, bucket: Bucket) -> None:
    acknowledged = fill(tmp_path, 25)
    numbers = Numbers()
    result = uploader_for(tmp_path, bucket, numbers).drain(30)
    assert (result.shipped, result.rejected, result.left.segments) == (25, 0, 0)
    bucket.assert_holds(acknowledged)
    assert set(bucket.ids()) == set(acknowledged)
    assert numbers.counts["archive_shipped_total"] == 25
    assert len(numbers.values["archive_upload_seconds"]) == 1
    assert spool_at(tmp_path).files() == []


def test_the_object_is_the_segment_itself_and_its_table_lies_beside_it(tmp_path: Path, bucket: Bucket) -> None:
    fill(tmp_path, 3)
    (segment,) = spool_at(tmp_path).sealed()
    data = segment.read_bytes()
    uploader_for(tmp_path, bucket).drain(30)
    tar, table = sorted(bucket.objects(), reverse=True)
    name = parse_name(tar)
    assert name
    assert (tar, table) == (f"v2/segments/{HOUR}/{name.text}.tar", f"v2/records/{HOUR}/{name.text}.parquet")
    assert bucket.reader.get(f"{bucket.store.destination.prefix}/{tar}") == data + END
    for key, kind in ((tar, "application/x-tar"), (table, "application/vnd.apache.parquet")):
        head = bucket.store.client.head_object(
            Bucket="archive", Key=f"{bucket.store.destination.prefix}/{key}", ChecksumMode="ENABLED"
        )
        assert head["ServerSideEncryption"] == "AES256"
        assert head["ContentType"] == kind
        assert head["ChecksumCRC32"]


def test_one_ranged_get_brings_a_record(tmp_path: Path, bucket: Bucket) -> None:
    acknowledged = fill(tmp_path, 4)
    uploader_for(tmp_path, bucket).drain(30)
    for row in bucket.rows():
        photo, mask = bucket.reader.photo_and_mask(row)
        assert digest(photo) == acknowledged[row["request_id"]]
        assert digest(mask) == row["mask_sha256"]


def test_small_segments_of_an_hour_become_one_object_and_other_hours_their_own(
    tmp_path: Path, bucket: Bucket
) -> None:
    acknowledged = {}
    for _ in range(4):
        acknowledged |= fill(tmp_path, 2)
    for jump in (timedelta(hours=1), timedelta(hours=12)):
        acknowledged |= fill(tmp_path, 2, time=NOON + jump)
    assert len(spool_at(tmp_path).sealed()) == 6
    assert uploader_for(tmp_path, bucket).drain(30).left.segments == 0
    assert len([key for key in bucket.objects() if key.endswith(".tar")]) == 3
    bucket.assert_holds(acknowledged)


def test_segments_are_joined_up_to_their_size(tmp_path: Path, bucket: Bucket) -> None:
    acknowledged = {}
    for _ in range(5):
        acknowledged |= fill(tmp_path, 2)
    size = spool_at(tmp_path).sealed()[0].stat().st_size
    uploader_for(tmp_path, bucket, segment_bytes=2 * size + 2000).drain(30)
    assert len([key for key in bucket.objects() if key.endswith(".tar")]) == 3
    bucket.assert_holds(acknowledged)


def test_an_uploader_puts_one_small_segment_in_its_time_and_full_ones_at_once(tmp_path: Path, bucket: Bucket) -> None:
    acknowledged = fill(tmp_path, 2)
    uploader = uploader_for(tmp_path, bucket, segment_seconds=3600, segment_bytes=100_000)
    uploader.start()
    wait_for(lambda: uploader.shipped == 2)
    acknowledged |= fill(tmp_path, 1)  # small: it waits for the next time
    full = fill(tmp_path, 90_000 // len(clean_photo(0)))
    wait_for(lambda: uploader.shipped >= 2 + len(full) // 2)
    (small,) = spool_at(tmp_path).sealed()[:1]
    assert records_of(small)[0].request_id in acknowledged
    spool_at(tmp_path).request_flush()  # or until somebody asks
    wait_for(spool_at(tmp_path).is_empty)
    uploader.stop()
    bucket.assert_holds({**acknowledged, **full})


def test_what_other_workers_have_open_goes_with_what_is_small(tmp_path: Path, bucket: Bucket) -> None:
    """So that a server with little traffic puts one segment in its time, however many workers it has."""
    archives = [writer(tmp_path, segment_seconds=3600) for _ in range(3)]
    acknowledged = fill(tmp_path, 1)
    for number, archive in enumerate(archives, 1):
        given = exchange(number)
        assert archive.keep(given) is Outcome.SPOOLED
        acknowledged[given.request_id] = digest(given.photo)
    uploader = uploader_for(tmp_path, bucket, segment_seconds=3600)
    uploader.start()
    wait_for(lambda: uploader.shipped == 4)
    uploader.stop()
    for archive in archives:
        archive.close()
    bucket.assert_holds(acknowledged)
    assert len([key for key in bucket.objects() if key.endswith(".tar")]) == 1


def test_an_uploader_ships_by_itself_and_shows_its_backlog(tmp_path: Path, bucket: Bucket) -> None:
    numbers = Numbers()
    uploader = uploader_for(tmp_path, bucket, numbers)
    acknowledged = fill(tmp_path, 5)
    uploader.start()
    wait_for(lambda: uploader.shipped == 5 and "archive_spool_oldest_seconds" in numbers.gauges)
    uploader.stop()
    bucket.assert_holds(acknowledged)
    assert set(numbers.gauges) == {
        "archive_spool_segments",
        "archive_spool_bytes",
        "archive_spool_oldest_seconds",
    }


def test_what_waits_for_a_store_that_is_away_is_joined(tmp_path: Path, local_store: LocalStore) -> None:
    """After an outage there is one object for many small segments, and nothing is stuck."""
    with FaultyProxy(local_store.environment()["ARCHIVE_ENDPOINT_URL"], ("error-500",)) as proxy:
        bucket = bucket_of(local_store, proxy.url)
        acknowledged = fill(tmp_path, 1)
        uploader = uploader_for(tmp_path, bucket, segment_seconds=0.01)
        uploader.start()
        wait_for(lambda: len(proxy.seen) > 0)
        for _ in range(12):
            acknowledged |= fill(tmp_path, 1)
        seen = proxy.seen["error-500"]
        wait_for(lambda: proxy.seen["error-500"] > seen + 3)
        proxy.faults = ("pass",)
        wait_for(spool_at(tmp_path).is_empty)
        uploader.stop()
    bucket.assert_holds(acknowledged)
    assert len([key for key in bucket.objects() if key.endswith(".tar")]) <= 4


def test_backoff_is_jittered_capped_and_free_of_the_wall_clock(tmp_path: Path) -> None:
    def away() -> Store:
        raise Away("test")

    settings = ArchiveSettings(backoff_base_seconds=0.5, backoff_cap_seconds=30.0)
    log = RateLimitedLog(logging.getLogger("test"))
    uploader = Uploader(spool_at(tmp_path), away, settings, metrics=Numbers(), log=log, jitter=lambda: 1.0)
    assert [uploader.pause(number) for number in range(1, 9)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert uploader.pause(10_000) == 30.0


def test_a_drain_ends_at_its_deadline_and_says_what_is_left(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    environment = {
        **os.environ,
        "STATE_DIR": str(tmp_path),
        "ARCHIVE_BUCKET": "archive",
        "ARCHIVE_ENDPOINT_URL": "http://127.0.0.1:9",  # nobody listens there
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
    }
    command = [sys.executable, "-m", "humanseg.cli.main", "archive", "ship", "--drain", "--deadline", "1", "--json"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 3, result.stderr
    assert json.loads(result.stdout)["left_segments"] == 1
    assert len(waiting(tmp_path)) == 3
