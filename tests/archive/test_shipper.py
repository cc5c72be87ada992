"""What is in the spool reaches a real bucket exactly once under its key, or is still in the spool."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from humanseg.archive.capture.hook import Archive, Outcome
from humanseg.archive.capture.record import RECORD
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import Spool
from humanseg.archive.capture.telemetry import SparseLog
from humanseg.archive.errors import Away
from humanseg.archive.read.verifying import verify
from humanseg.archive.ship.local_store import LocalStore
from humanseg.archive.ship.shipper import Shipper
from humanseg.archive.ship.store import Store
from humanseg.archive.ship.target import Target
from tests.archive.faults import FAULTS, FaultyProxy
from tests.archive.helpers import FAST, NOON, Bucket, Numbers, bucket_of, clean_photo, digest, exchange

pytestmark = pytest.mark.slow  # together about 80 s of waiting for what fails and comes back

ROOT = Path(__file__).resolve().parents[2]


def writer(state_dir: Path) -> Archive:
    """An archive that only spools: its store never comes."""

    def never() -> Store:
        raise Away("never")

    return Archive.start(ArchiveSettings(**FAST), state_dir, open_store=never)


def fill(state_dir: Path, number: int, **changes: object) -> dict[str, str]:
    """`number` records in the spool, as id -> SHA-256 of the photo."""
    archive, acknowledged = writer(state_dir), {}
    for index in range(number):
        one = exchange(index, **changes)
        assert archive.keep(one) is Outcome.SPOOLED
        acknowledged[one.request_id] = digest(one.photo)
    assert archive.shipper is not None
    archive.shipper.stop()
    return acknowledged


def shipper_for(state_dir: Path, bucket: Bucket, numbers: Numbers | None = None, **settings: object) -> Shipper:
    chosen = ArchiveSettings(**{**FAST, **settings})

    def connect() -> Store:
        environment = bucket.environment
        target = Target.find(environment, state_dir)
        keys = (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
        return Store.open(Target(target.bucket, target.prefix, target.endpoint_url, target.region, *keys), chosen)

    return Shipper(
        Spool(state_dir / "spool"),
        connect,
        chosen,
        metrics=numbers or Numbers(),
        log=SparseLog(logging.getLogger("test")),
    )


@contextlib.contextmanager
def workers(
    bucket: Bucket, state_dir: Path, count: int, *, seconds: float, pause: float
) -> Iterator[list[subprocess.Popen[str]]]:
    """Worker processes that keep photos; what they said is read with `said` after the block."""
    command = [sys.executable, "-m", "tests.archive.worker", str(state_dir), str(seconds), str(pause)]
    environment = {**os.environ, **bucket.environment}
    running: list[subprocess.Popen[str]] = []
    for number in range(count):
        path = state_dir / f"said-{os.getpid()}-{number}-{time.monotonic_ns()}"
        with path.open("w") as output:
            running.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, text=True))
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


def said(state_dir: Path) -> tuple[dict[str, str], list[str]]:
    """(acknowledged records, all outcomes) from what the workers wrote. The last line may be half."""
    acknowledged, outcomes = {}, []
    for path in state_dir.glob("said-*"):
        for line in path.read_text().splitlines():
            parts = line.split()
            if len(parts) == 4:
                outcomes.append(parts[2])
                if parts[2] == "spooled":
                    acknowledged[parts[0]] = parts[1]
    return acknowledged, outcomes


def wait_for(what: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def test_records_reach_the_bucket_and_leave_the_spool(tmp_path: Path, bucket: Bucket) -> None:
    acknowledged = fill(tmp_path, 25)
    numbers = Numbers()
    done = shipper_for(tmp_path, bucket, numbers).drain(30)
    assert (done.shipped, done.rejected, done.left.records) == (25, 0, 0)
    bucket.assert_holds(acknowledged)
    assert set(bucket.ids()) == set(acknowledged)
    assert numbers.counts["archive_shipped_total"] == 25
    assert len(numbers.values["archive_upload_seconds"]) == 25
    assert [path.name for path in (tmp_path / "spool" / "trash").iterdir()] == []


def test_objects_are_encrypted_checked_and_typed(tmp_path: Path, bucket: Bucket) -> None:
    fill(tmp_path, 1)
    shipper_for(tmp_path, bucket).drain(30)
    (stored,) = bucket.reader.records()
    for name, kind in (("photo.jpg", "image/jpeg"), ("mask.png", "image/png"), (RECORD, "application/json")):
        head = bucket.store.client.head_object(
            Bucket="archive", Key=f"{stored.folder.key}/{name}", ChecksumMode="ENABLED"
        )
        assert head["ServerSideEncryption"] == "AES256"
        assert head["ContentType"] == kind
        assert head["ChecksumSHA256"]
    assert stored.folder.key == f"{bucket.store.target.prefix}/v1/dt=2026-11-20/hour=12/{stored.request_id}"


def test_a_worker_ships_by_itself_and_shows_its_backlog(tmp_path: Path, bucket: Bucket) -> None:
    numbers = Numbers()
    shipper = shipper_for(tmp_path, bucket, numbers)
    acknowledged = fill(tmp_path, 5)
    shipper.start()
    wait_for(lambda: shipper.shipped == 5 and "archive_spool_oldest_seconds" in numbers.gauges)
    shipper.stop()
    bucket.assert_holds(acknowledged)
    assert set(numbers.gauges) == {
        "archive_spool_records",
        "archive_spool_bytes",
        "archive_spool_oldest_seconds",
    }


@pytest.mark.parametrize("fault", [one for one in FAULTS if one != "pass"])
def test_each_fault_of_the_store_costs_no_record(tmp_path: Path, local_store: LocalStore, fault: str) -> None:
    with FaultyProxy(local_store.environment()["ARCHIVE_ENDPOINT_URL"], (fault,)) as proxy:
        bucket = bucket_of(local_store, proxy.url)
        acknowledged = fill(tmp_path, 2)
        shipper = shipper_for(tmp_path, bucket)
        shipper.start()
        wait_for(lambda: proxy.seen[fault] >= 3)
        proxy.faults = ("pass",)
        wait_for(lambda: shipper.shipped == 2)
        shipper.stop()
    bucket.assert_holds(acknowledged)
    assert shipper.rejected == 0


def test_a_store_with_every_fault_at_once_gets_everything_once(tmp_path: Path, local_store: LocalStore) -> None:
    with FaultyProxy(local_store.environment()["ARCHIVE_ENDPOINT_URL"]) as proxy:
        bucket = bucket_of(local_store, proxy.url)
        acknowledged = fill(tmp_path, 30)
        done = shipper_for(tmp_path, bucket).drain(120, threads=4)
        assert done.left.records == 0
        assert set(proxy.seen) == set(FAULTS), "the run was too short to meet every fault"
    bucket.assert_holds(acknowledged)
    assert done.rejected == 0


def test_half_a_record_is_never_taken_for_a_whole_one(tmp_path: Path, local_store: LocalStore) -> None:
    """While the store fails half of all requests, no reader ever sees a committed record with a part missing."""
    with FaultyProxy(local_store.environment()["ARCHIVE_ENDPOINT_URL"], ("pass", "error-500")) as proxy:
        bucket = bucket_of(local_store, proxy.url)
        fill(tmp_path, 3)
        shipper = shipper_for(tmp_path, bucket)
        shipper.start()
        while shipper.shipped < 3:
            assert verify(bucket.reader).problems == []
        shipper.stop()


@pytest.mark.parametrize("fault", ["denied-403", "too-large-400"])
def test_what_s3_refuses_is_set_aside_and_holds_up_nobody(
    tmp_path: Path, local_store: LocalStore, fault: str
) -> None:
    with FaultyProxy(local_store.environment()["ARCHIVE_ENDPOINT_URL"], (fault,)) as proxy:
        bucket = bucket_of(local_store, proxy.url)
        refused = fill(tmp_path, 2)
        numbers = Numbers()
        shipper = shipper_for(tmp_path, bucket, numbers, refused_attempts=2)
        shipper.start()
        wait_for(lambda: shipper.rejected == 2)
        assert sum(numbers.counts[name] for name in numbers.counts if "rejected" in name) == 2
        proxy.faults = ("pass",)
        wanted = fill(tmp_path, 3)
        wait_for(lambda: shipper.shipped == 3)
        shipper.stop()
        bucket.assert_holds(wanted)
        spool = Spool(tmp_path / "spool")
        for entry in spool.rejected():
            code = (entry.path / "reason.txt").read_text().strip()
            assert code in ("AccessDenied", "EntityTooLarge")
            spool.restore(entry)
        assert shipper_for(tmp_path, bucket).drain(30).left.records == 0
    bucket.assert_holds({**refused, **wanted})


def test_unknown_keys_are_the_operators_matter_and_cost_no_record(tmp_path: Path, local_store: LocalStore) -> None:
    with FaultyProxy(local_store.environment()["ARCHIVE_ENDPOINT_URL"], ("unknown-key-403",)) as proxy:
        bucket = bucket_of(local_store, proxy.url)
        acknowledged = fill(tmp_path, 2)
        shipper = shipper_for(tmp_path, bucket)
        shipper.start()
        wait_for(lambda: proxy.seen["unknown-key-403"] >= 15)
        assert shipper.rejected == 0
        proxy.faults = ("pass",)
        wait_for(lambda: shipper.shipped == 2)
        shipper.stop()
    bucket.assert_holds(acknowledged)


def test_a_damaged_record_never_becomes_a_complete_one(tmp_path: Path, bucket: Bucket) -> None:
    """What a power cut leaves with fsync off: the folder is there, the bytes are not."""
    fill(tmp_path, 3)
    entries = Spool(tmp_path / "spool").ready()
    (entries[0].path / "photo.jpg").write_bytes(b"")
    (entries[1].path / RECORD).write_bytes(b"")
    done = shipper_for(tmp_path, bucket).drain(30)
    assert (done.shipped, done.rejected) == (1, 2)
    assert bucket.ids() == [entries[2].request_id]
    assert verify(bucket.reader).uncommitted == []


def test_an_upload_that_was_cut_off_is_finished_by_the_next_shipper(tmp_path: Path, bucket: Bucket) -> None:
    """Everything but the commit mark, and everything with it: the two places where a kill hurts most."""
    acknowledged = fill(tmp_path, 2)
    spool = Spool(tmp_path / "spool")
    for entry, upto in zip(spool.ready(), (2, 3), strict=True):
        files = entry.read()
        folder = f"{bucket.store.target.prefix}/v1/dt=2026-11-20/hour=12/{entry.request_id}"
        for name, data in files[:upto]:
            bucket.store.put_new(f"{folder}/{name}", data)
    done = shipper_for(tmp_path, bucket).drain(30)
    assert done.left.records == 0
    bucket.assert_holds(acknowledged)


def test_another_record_under_the_same_key_is_not_overwritten(tmp_path: Path, bucket: Bucket) -> None:
    first = exchange(1)
    fill_one = writer(tmp_path)
    assert fill_one.keep(first) is Outcome.SPOOLED
    assert shipper_for(tmp_path, bucket).drain(30).shipped == 1
    impostor = exchange(2, request_id=first.request_id, coverage=0.99)
    assert fill_one.keep(impostor) is Outcome.SPOOLED
    done = shipper_for(tmp_path, bucket).drain(30)
    assert (done.shipped, done.rejected) == (0, 1)
    bucket.assert_holds({first.request_id: digest(first.photo)})


def test_a_clock_that_jumps_loses_and_doubles_nothing(tmp_path: Path, bucket: Bucket) -> None:
    acknowledged = {}
    for jump in (0, 86_400, -86_400, 3600 * 24 * 365, -3600, 0):
        acknowledged |= fill(tmp_path, 2, time=NOON + timedelta(seconds=jump))
    assert shipper_for(tmp_path, bucket).drain(30).left.records == 0
    bucket.assert_holds(acknowledged)


def test_backoff_is_jittered_capped_and_free_of_the_wall_clock(tmp_path: Path) -> None:
    fill(tmp_path, 1)

    def away() -> Store:
        raise Away("test")

    shipper = Shipper(
        Spool(tmp_path / "spool"),
        away,
        ArchiveSettings(backoff_base_seconds=0.5, backoff_cap_seconds=30.0),
        metrics=Numbers(),
        log=SparseLog(logging.getLogger("test")),
        monotonic=lambda: 0.0,
        jitter=lambda: 1.0,
    )
    (entry,) = Spool(tmp_path / "spool").ready()
    assert [shipper._ship(entry) for _ in range(8)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


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
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["left_records"] == 3
    assert len(Spool(tmp_path / "spool").ready()) == 3


def test_two_servers_ship_one_spool_without_doubles(tmp_path: Path, bucket: Bucket) -> None:
    """Two workers write; their own shipping process, and two more shippers, take from the same spool at a time."""
    others = [shipper_for(tmp_path, bucket) for _ in range(2)]
    with workers(bucket, tmp_path, 2, seconds=3, pause=0.02) as running:
        for shipper in others:
            shipper.start()
        for process in running:
            assert process.wait(60) == 0
    wait_for(Spool(tmp_path / "spool").is_empty)
    for shipper in others:
        shipper.stop()
    acknowledged, outcomes = said(tmp_path)
    assert set(outcomes) == {"spooled"}
    bucket.assert_holds(acknowledged)
    assert set(bucket.ids()) == set(acknowledged)


def test_workers_killed_with_sigkill_lose_and_double_nothing(tmp_path: Path, bucket: Bucket) -> None:
    draw = random.Random(4)
    for _ in range(5):
        with workers(bucket, tmp_path, 2, seconds=60, pause=0.0) as running:
            before = len(said(tmp_path)[0])
            wait_for(lambda before=before: len(said(tmp_path)[0]) > before + 20)  # type: ignore[misc]
            time.sleep(draw.uniform(0.0, 0.5))
            for process in running:
                process.send_signal(signal.SIGKILL)
    done = shipper_for(tmp_path, bucket).drain(120)
    assert done.left.records == 0
    acknowledged, outcomes = said(tmp_path)
    assert set(outcomes) == {"spooled"}
    bucket.assert_holds(acknowledged)
    # A worker may die between the spool and its answer, so there may be more; each killed one at most one.
    assert len(set(bucket.ids()) - set(acknowledged)) <= 10


def test_a_store_killed_under_load_and_started_again_gets_everything(tmp_path: Path) -> None:
    local = LocalStore(tmp_path / "store")
    local.start()
    local.wait_ready()
    try:
        bucket = bucket_of(local)
        with workers(bucket, tmp_path, 2, seconds=8, pause=0.02) as running:
            wait_for(lambda: len(said(tmp_path)[0]) > 30)
            assert local.process is not None
            local.process.kill()
            local.process.wait()
            time.sleep(3)
            local.start()
            for process in running:
                assert process.wait(60) == 0
        local.wait_ready()
        assert shipper_for(tmp_path, bucket).drain(60).left.records == 0
        acknowledged, outcomes = said(tmp_path)
        assert set(outcomes) == {"spooled"}
        bucket.assert_holds(acknowledged)
    finally:
        local.stop()


def test_a_shipper_finds_the_store_that_comes_later(tmp_path: Path, local_store: LocalStore) -> None:
    """A worker starts before the embedded store has written its address and keys."""
    archive = Archive.start(ArchiveSettings(**FAST), tmp_path)
    one = exchange(photo=clean_photo(3), time=datetime.now(timezone.utc))
    assert archive.keep(one) is Outcome.SPOOLED
    time.sleep(0.5)
    assert len(archive.spool.ready()) == 1
    (tmp_path / "store").mkdir()
    text = local_store.environment_file.read_text()
    (tmp_path / "store" / "environment").write_text(text)
    wait_for(archive.spool.is_empty)
    assert archive.shipper is not None
    archive.shipper.stop()
