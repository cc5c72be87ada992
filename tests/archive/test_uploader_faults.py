"""Whatever fails or is killed between spool and bucket, each record arrives exactly once or stays in the spool."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from humanseg.archive.capture.hook import Archive, Outcome
from humanseg.archive.capture.names import parse_name, segment_key, table_key
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import REASON_FILE, records_of
from humanseg.archive.read.verify import verify
from humanseg.archive.ship import groups
from humanseg.archive.ship.local_store import LocalStore
from tests.archive.faults import FAULTS, FaultyProxy
from tests.archive.helpers import FAST, NOON, Bucket, Numbers, bucket_of, clean_photo, digest, exchange
from tests.archive.shipping import fill, reported, spool_at, uploader_for, wait_for, workers, writer

pytestmark = pytest.mark.slow  # together about 60 s of waiting for what fails and comes back

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "pass"])
def test_each_fault_of_the_store_costs_no_record(tmp_path: Path, local_store: LocalStore, fault: str) -> None:
    with FaultyProxy(local_store.environment()["ARCHIVE_ENDPOINT_URL"], (fault,)) as proxy:
        bucket = bucket_of(local_store, proxy.url)
        acknowledged = fill(tmp_path, 2)
        uploader = uploader_for(tmp_path, bucket)
        uploader.start()
        wait_for(lambda: proxy.seen[fault] >= 2)
        proxy.faults = ("pass",)
        wait_for(lambda: uploader.shipped == 2)
        uploader.stop()
    bucket.assert_holds(acknowledged)
    assert uploader.rejected == 0


def test_a_store_with_every_fault_at_once_gets_everything_once(tmp_path: Path, local_store: LocalStore) -> None:
    with FaultyProxy(local_store.environment()["ARCHIVE_ENDPOINT_URL"]) as proxy:
        bucket = bucket_of(local_store, proxy.url)
        acknowledged = {}
        for number in range(20):
            acknowledged |= fill(tmp_path, 2, time=NOON + timedelta(hours=number))
        result = uploader_for(tmp_path, bucket).drain(120)
        assert result.left.segments == 0
        assert set(proxy.seen) == set(FAULTS), "the run was too short to meet every fault"
    bucket.assert_holds(acknowledged)
    assert result.rejected == 0


def test_a_segment_without_its_table_is_never_taken_for_a_whole_one(tmp_path: Path, local_store: LocalStore) -> None:
    """While the store fails half of all requests, no reader ever sees a record whose bytes are not there."""
    with FaultyProxy(local_store.environment()["ARCHIVE_ENDPOINT_URL"], ("pass", "error-500")) as proxy:
        bucket = bucket_of(local_store, proxy.url)
        for number in range(3):
            fill(tmp_path, 2, time=NOON + timedelta(hours=number))
        uploader = uploader_for(tmp_path, bucket)
        uploader.start()
        while uploader.shipped < 6:
            assert verify(bucket.reader).problems == []
        uploader.stop()


@pytest.mark.parametrize("fault", ["denied-403", "too-large-400"])
def test_what_s3_refuses_is_set_aside_and_holds_up_nobody(
    tmp_path: Path, local_store: LocalStore, fault: str
) -> None:
    with FaultyProxy(local_store.environment()["ARCHIVE_ENDPOINT_URL"], (fault,)) as proxy:
        bucket = bucket_of(local_store, proxy.url)
        refused = fill(tmp_path, 2)
        numbers = Numbers()
        uploader = uploader_for(tmp_path, bucket, numbers, refused_attempts=2)
        uploader.start()
        wait_for(lambda: uploader.rejected == 2)
        assert sum(numbers.counts[name] for name in numbers.counts if "rejected" in name) == 2
        proxy.faults = ("pass",)
        wanted = fill(tmp_path, 3)
        wait_for(lambda: uploader.shipped == 3)
        uploader.stop()
        bucket.assert_holds(wanted)
        spool = spool_at(tmp_path)
        (folder,) = spool.rejected()
        assert (folder / REASON_FILE).read_text().strip() in ("AccessDenied", "EntityTooLarge")
        assert spool.backlog().rejected == 1
        assert groups.restore_rejected(spool) == 1
        assert uploader_for(tmp_path, bucket).drain(30).left.segments == 0
    bucket.assert_holds({**refused, **wanted})


def test_unknown_keys_are_the_operators_matter_and_cost_no_record(tmp_path: Path, local_store: LocalStore) -> None:
    with FaultyProxy(local_store.environment()["ARCHIVE_ENDPOINT_URL"], ("unknown-key-403",)) as proxy:
        bucket = bucket_of(local_store, proxy.url)
        acknowledged = fill(tmp_path, 2)
        uploader = uploader_for(tmp_path, bucket)
        uploader.start()
        wait_for(lambda: proxy.seen["unknown-key-403"] >= 8)
        assert uploader.rejected == 0
        proxy.faults = ("pass",)
        wait_for(lambda: uploader.shipped == 2)
        uploader.stop()
    bucket.assert_holds(acknowledged)


def test_a_damaged_byte_costs_its_own_record_and_is_counted(tmp_path: Path, bucket: Bucket) -> None:
    acknowledged = fill(tmp_path, 5)
    (segment,) = spool_at(tmp_path).sealed()
    hurt = records_of(segment)[2]
    data = bytearray(segment.read_bytes())
    at = data.index(clean_photo(2))
    data[at + 100] ^= 1
    segment.write_bytes(data)
    numbers = Numbers()
    result = uploader_for(tmp_path, bucket, numbers).drain(30)
    assert (result.shipped, result.rejected, result.left.rejected) == (4, 1, 1)
    assert numbers.counts["archive_rejected_total[Damaged]"] == 1
    del acknowledged[hurt.request_id]
    bucket.assert_holds(acknowledged)
    assert hurt.request_id not in bucket.ids()
    (aside,) = spool_at(tmp_path).rejected()
    assert "does not match" in (aside / REASON_FILE).read_text()
    assert data[at : at + 2000] in (aside / "damaged.bin").read_bytes(), "somebody may want to look at it"
    assert groups.restore_rejected(spool_at(tmp_path)) == 0


@pytest.mark.parametrize("lost", [1, 300, 5000])
def test_a_power_cut_that_eats_the_end_of_a_segment_costs_only_what_it_ate(
    tmp_path: Path, bucket: Bucket, lost: int
) -> None:
    """What a power cut may leave without fsync: a sealed file that is shorter, or whose last blocks are zeros."""
    acknowledged = fill(tmp_path, 3)
    (segment,) = spool_at(tmp_path).sealed()
    ids = [record.request_id for record in records_of(segment)]
    data = segment.read_bytes()
    segment.write_bytes(data[:-lost] if lost != 300 else data[:-lost] + bytes(lost))
    result = uploader_for(tmp_path, bucket).drain(30)
    assert (result.left.segments, bucket.ids()) in ((0, ids), (0, ids[:2]), (0, ids[:1]))
    bucket.assert_holds({request_id: acknowledged[request_id] for request_id in bucket.ids()})
    assert result.rejected == (0 if bucket.ids() == ids else 1)


def test_with_fsync_the_spool_is_on_the_disk_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power loss: what `keep` acknowledged was forced out, the file's name included; only then it returns."""
    forced: list[str] = []
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)

        def record(descriptor: int, name: str = name, real: Callable[[int], None] = real) -> None:
            forced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
            real(descriptor)

        monkeypatch.setattr(os, name, record)
    archive = writer(tmp_path, fsync=True)
    assert archive.keep(exchange(1)) is Outcome.SPOOLED
    (path,) = spool_at(tmp_path).open_segments()
    assert forced == ["open", path.name]
    assert archive.keep(exchange(2)) is Outcome.SPOOLED
    assert forced == ["open", path.name, path.name]
    archive.close()
    assert forced[3:] == ["sealed", "open"]


@pytest.mark.parametrize("upto", ["tar", "table"])
def test_an_upload_that_was_cut_off_is_finished_by_the_next_uploader(
    tmp_path: Path, bucket: Bucket, upto: str
) -> None:
    """Killed between the two PUTs, and after both: the same puts again, which change nothing."""
    acknowledged = fill(tmp_path, 2)
    spool = spool_at(tmp_path)
    group = groups.fix(spool, spool.sealed())
    assert group
    first = uploader_for(tmp_path, bucket)
    name, contents = parse_name(group.name), groups.read(group)
    assert name and isinstance(contents, groups.Contents)
    root = f"{bucket.store.destination.prefix}/v2"
    bucket.store.put_new(segment_key(root, name), contents.data)
    if upto == "table":
        first._put(group, contents)
    more = fill(tmp_path, 2)  # and what came meanwhile does not change what is being put
    result = uploader_for(tmp_path, bucket).drain(30)
    assert result.left.segments == 0
    assert table_key(root, name) in [f"{bucket.store.destination.prefix}/{key}" for key in bucket.objects()]
    bucket.assert_holds({**acknowledged, **more})
    assert len(bucket.ids()) == 4


def test_a_group_that_was_not_fixed_yet_is_finished_after_a_kill(tmp_path: Path, bucket: Bucket) -> None:
    acknowledged = {**fill(tmp_path, 1), **fill(tmp_path, 1)}
    spool = spool_at(tmp_path)
    first, second = spool.sealed()
    folder = spool.root / "shipping" / f".{first.stem}"
    folder.mkdir()
    first.rename(folder / first.name)
    uploader_for(tmp_path, bucket).drain(30)
    assert spool.is_empty()
    bucket.assert_holds(acknowledged)
    assert second.exists() is False


def test_other_bytes_under_the_same_key_are_not_overwritten(tmp_path: Path, bucket: Bucket) -> None:
    fill(tmp_path, 1)
    spool = spool_at(tmp_path)
    group = groups.fix(spool, spool.sealed())
    assert group
    name = parse_name(group.name)
    assert name
    key = segment_key(f"{bucket.store.destination.prefix}/v2", name)
    bucket.store.put_new(key, b"somebody else's")
    result = uploader_for(tmp_path, bucket, refused_attempts=2).drain(30)
    assert (result.shipped, result.rejected) == (0, 1)
    assert bucket.reader.get(key) == b"somebody else's"
    assert (spool.rejected()[0] / REASON_FILE).read_text() == "Conflict\n"


def test_a_clock_that_jumps_loses_and_doubles_nothing(tmp_path: Path, bucket: Bucket) -> None:
    """Back over midnight, too, within one open segment: each record lies under the day that it says."""
    archive, acknowledged = writer(tmp_path), {}
    midnight = datetime(2026, 11, 21, tzinfo=timezone.utc)
    times = [midnight - timedelta(seconds=1), midnight, midnight - timedelta(seconds=2), midnight]
    times += [NOON + timedelta(seconds=jump) for jump in (0, 86_400, -86_400, 3600 * 24 * 365, -3600)]
    for index, time_ in enumerate(times):
        given = exchange(index, time=time_)
        assert archive.keep(given) is Outcome.SPOOLED
        acknowledged[given.request_id] = digest(given.photo)
    archive.close()
    assert uploader_for(tmp_path, bucket).drain(30).left.segments == 0
    bucket.assert_holds(acknowledged)
    for row in bucket.rows():
        assert f"/{row['time']:dt=%Y-%m-%d/hour=%H}/" in row["segment"]


def test_two_servers_ship_one_spool_without_doubles(tmp_path: Path, bucket: Bucket) -> None:
    """Two workers write; their own uploader, and two more, want the same spool at a time."""
    others = [uploader_for(tmp_path, bucket) for _ in range(2)]
    with workers(bucket, tmp_path, 2, seconds=3, pause=0.02) as running:
        for uploader in others:
            uploader.start()
        for process in running:
            assert process.wait(60) == 0
    wait_for(spool_at(tmp_path).is_empty)
    for uploader in others:
        uploader.stop()
    acknowledged, outcomes = reported(tmp_path)
    assert set(outcomes) == {"spooled"}
    bucket.assert_holds(acknowledged)
    assert set(bucket.ids()) == set(acknowledged)


def test_workers_killed_with_sigkill_lose_and_double_nothing(tmp_path: Path, bucket: Bucket) -> None:
    draw = random.Random(4)
    for _ in range(4):
        with workers(bucket, tmp_path, 2, seconds=60, pause=0.0) as running:
            before = len(reported(tmp_path)[0])
            wait_for(lambda before=before: len(reported(tmp_path)[0]) > before + 20)  # type: ignore[misc]
            time.sleep(draw.uniform(0.0, 0.5))
            for process in running:
                process.send_signal(signal.SIGKILL)
    result = uploader_for(tmp_path, bucket).drain(120)
    assert result.left.segments == 0
    acknowledged, outcomes = reported(tmp_path)
    assert set(outcomes) == {"spooled"}
    bucket.assert_holds(acknowledged)
    # A worker may die between the spool and its answer, so there may be more; each killed one at most one.
    assert len(set(bucket.ids()) - set(acknowledged)) <= 8


def test_an_uploader_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path, bucket: Bucket) -> None:
    """Its process is killed again and again while two workers write; every time another takes over."""
    draw = random.Random(7)
    command = [sys.executable, "-m", "humanseg.cli.main", "archive", "ship"]
    environment = {**os.environ, **bucket.environment, "STATE_DIR": str(tmp_path)}
    for round_ in range(6):
        acknowledged_now = {}
        for number in range(3):
            acknowledged_now |= fill(tmp_path, 4, start=number, time=NOON + timedelta(hours=round_ + number))
        (tmp_path / f"reported-{round_}").write_text(
            "".join(f"{name} {sha} spooled 0\n" for name, sha in acknowledged_now.items())
        )
        before = len(bucket.objects())
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        wait_for(lambda before=before: len(bucket.objects()) > before)  # type: ignore[misc]
        time.sleep(draw.uniform(0.0, 0.15))
        process.kill()
        process.wait()
    assert uploader_for(tmp_path, bucket).drain(60).left.segments == 0
    acknowledged, _ = reported(tmp_path)
    bucket.assert_holds(acknowledged)
    assert set(bucket.ids()) == set(acknowledged)


def test_a_store_killed_under_load_and_started_again_gets_everything(tmp_path: Path) -> None:
    local = LocalStore(tmp_path / "store")
    local.start()
    local.wait_ready()
    try:
        bucket = bucket_of(local)
        with workers(bucket, tmp_path, 2, seconds=8, pause=0.02) as running:
            wait_for(lambda: len(reported(tmp_path)[0]) > 30)
            assert local.process is not None
            local.process.kill()
            local.process.wait()
            time.sleep(3)
            local.start()
            for process in running:
                assert process.wait(60) == 0
        local.wait_ready()
        assert uploader_for(tmp_path, bucket).drain(60).left.segments == 0
        acknowledged, outcomes = reported(tmp_path)
        assert set(outcomes) == {"spooled"}
        bucket.assert_holds(acknowledged)
    finally:
        local.stop()


def test_an_uploader_finds_the_store_that_comes_later(tmp_path: Path, local_store: LocalStore) -> None:
    """A worker starts before the embedded store has written its address and keys."""
    archive = Archive.start(ArchiveSettings(**FAST, segment_seconds=0.2), tmp_path)
    given = exchange(photo=clean_photo(3), time=datetime.now(timezone.utc))
    assert archive.keep(given) is Outcome.SPOOLED
    wait_for(lambda: bool(spool_at(tmp_path).groups()))
    (tmp_path / "store").mkdir()
    text = local_store.environment_file.read_text()
    (tmp_path / "store" / "environment").write_text(text)
    wait_for(archive.spool.is_empty)
    archive.close()
