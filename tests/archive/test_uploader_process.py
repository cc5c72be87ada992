"""The shipping process: beside the workers, below them in priority, and never longer there than they are."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from humanseg.archive.ship.side_process import SideProcess, uploads

from humanseg.archive.capture.hook import Archive, Outcome, open_spool
from humanseg.archive.capture.settings import ArchiveSettings
from tests.archive.helpers import FAST, Bucket, Numbers, digest, exchange
from tests.archive.test_shipper import said, wait_for, workers


@pytest.fixture
def archive(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """An archive as the handler starts it; `archive.numbers` has its metrics."""
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    numbers = Numbers()
    started = Archive.start(ArchiveSettings(**FAST), tmp_path, metrics=numbers)
    started.numbers = numbers  # type: ignore[attr-defined]
    yield started
    assert started.shipper is not None
    started.shipper.stop()


def process_of(archive: Archive) -> psutil.Process:
    shipper = archive.shipper
    assert isinstance(shipper, SideProcess)
    wait_for(lambda: shipper._process is not None)
    assert shipper._process is not None
    return psutil.Process(shipper._process.pid)


def policy_of(archive: Archive) -> int:
    """The scheduling policy of its process; -1 while there is none."""
    try:
        return os.sched_getscheduler(process_of(archive).pid)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return -1


def shippers_of(pid: int) -> list[psutil.Process]:
    return [one for one in psutil.Process(pid).children() if "humanseg.archive.ship.side_process" in one.cmdline()]


def test_it_ships_counts_and_gives_way(archive: Archive, bucket: Bucket) -> None:
    numbers: Numbers = archive.numbers  # type: ignore[attr-defined]
    acknowledged = {}
    for number in range(5):
        one = exchange(number)
        assert archive.keep(one) is Outcome.SPOOLED
        acknowledged[one.request_id] = digest(one.photo)
    wait_for(lambda: numbers.counts["archive_shipped_total"] == 5)
    wait_for(lambda: "archive_spool_oldest_seconds" in numbers.gauges)
    assert len(numbers.values["archive_upload_seconds"]) == 5
    bucket.assert_holds(acknowledged)
    assert policy_of(archive) == os.SCHED_IDLE


@pytest.mark.slow
def test_a_spool_that_is_half_full_is_shipped_at_ordinary_priority_until_there_is_room(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    settings = ArchiveSettings(spool_max_records=10, **FAST)
    spool = open_spool(settings, tmp_path)
    with contextlib.ExitStack() as held:
        archive = Archive.start(settings, tmp_path)
        for number in range(7):
            assert archive.keep(exchange(number)) is Outcome.SPOOLED
            for entry in spool.ready():  # what this test holds, no shipper takes
                held.enter_context(spool.claim(entry))
        wait_for(lambda: "no longer gives way" in caplog.text, 30)
        wait_for(lambda: policy_of(archive) == os.SCHED_OTHER, 30)
    wait_for(archive.spool.is_empty, 30)
    wait_for(lambda: policy_of(archive) == os.SCHED_IDLE, 30)
    assert archive.shipper is not None
    archive.shipper.stop()
    assert "a new one is started" not in caplog.text, "a change of priority is no accident"


def test_shipping_that_need_not_give_way_has_ordinary_priority(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    archive = Archive.start(ArchiveSettings(give_way=False, **FAST), tmp_path)
    assert archive.keep(exchange()) is Outcome.SPOOLED
    wait_for(archive.spool.is_empty, 30)
    assert policy_of(archive) == os.SCHED_OTHER
    assert archive.shipper is not None
    archive.shipper.stop()


def test_the_embedded_store_is_given_one_record_at_a_time_until_the_spool_is_half_full() -> None:
    assert uploads(ArchiveSettings(), {}) == 1
    assert uploads(ArchiveSettings(give_way=False), {}) == 4
    assert uploads(ArchiveSettings(upload_threads=7), {"ARCHIVE_BUCKET": "photos"}) == 7


def test_a_process_that_dies_is_started_again(archive: Archive, bucket: Bucket) -> None:
    first = process_of(archive)
    first.send_signal(signal.SIGKILL)
    one = exchange(1)
    assert archive.keep(one) is Outcome.SPOOLED
    wait_for(archive.spool.is_empty, 60)
    assert process_of(archive).pid != first.pid
    bucket.assert_holds({one.request_id: digest(one.photo)})


@pytest.mark.slow
def test_it_ends_with_its_worker_and_another_worker_takes_over(tmp_path: Path, bucket: Bucket) -> None:
    with workers(bucket, tmp_path, 2, seconds=120, pause=0.2) as running:
        wait_for(lambda: sum(len(shippers_of(one.pid)) for one in running) == 1, 60)
        lead, other = sorted(running, key=lambda one: -len(shippers_of(one.pid)))
        (shipper,) = shippers_of(lead.pid)
        lead.send_signal(signal.SIGKILL)
        lead.wait()
        psutil.wait_procs([shipper], timeout=10)
        assert not shipper.is_running(), "the shipping process outlived its worker"
        wait_for(lambda: len(shippers_of(other.pid)) == 1, 60)
        before = len(bucket.ids())
        wait_for(lambda: len(bucket.ids()) > before, 60)
    assert said(tmp_path)[1]
