"""The uploader's process: beside the workers, one a server, and never longer there than they are."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from humanseg.archive.capture.hook import Archive, Outcome
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.uploader_process import MODULE
from tests.archive.helpers import FAST, Bucket, Numbers, digest, exchange
from tests.archive.shipping import reported, wait_for, workers

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
def archive(tmp_path: Path, bucket: Bucket, numbers: Numbers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """An archive as the handler starts it."""
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    settings = ArchiveSettings(**{**FAST, "segment_seconds": 0.2})
    started = Archive.start(settings, tmp_path, metrics=numbers)
    yield started
    started.close()


def uploaders_of(pid: int) -> list[psutil.Process]:
    return [connection for connection in psutil.Process(pid).children() if MODULE in connection.cmdline()]


def test_it_ships_and_counts(archive: Archive, bucket: Bucket, numbers: Numbers) -> None:
    acknowledged = {}
    for number in range(5):
        given = exchange(number)
        assert archive.keep(given) is Outcome.SPOOLED
        acknowledged[given.request_id] = digest(given.photo)
    wait_for(lambda: numbers.counts["archive_shipped_total"] == 5)
    wait_for(lambda: "archive_spool_oldest_seconds" in numbers.gauges)
    assert len(numbers.values["archive_upload_seconds"]) >= 1
    bucket.assert_holds(acknowledged)


@pytest.mark.slow
def test_a_process_that_dies_is_started_again(archive: Archive, bucket: Bucket) -> None:
    wait_for(lambda: bool(uploaders_of(psutil.Process().pid)))
    (first,) = uploaders_of(psutil.Process().pid)
    first.send_signal(signal.SIGKILL)
    given = exchange(1)
    assert archive.keep(given) is Outcome.SPOOLED
    wait_for(archive.spool.is_empty, 60)
    assert [process.pid for process in uploaders_of(psutil.Process().pid)] != [first.pid]
    bucket.assert_holds({given.request_id: digest(given.photo)})


@pytest.mark.slow
def test_it_ends_with_its_worker_and_another_worker_takes_over(tmp_path: Path, bucket: Bucket) -> None:
    with workers(bucket, tmp_path, 2, seconds=120, pause=0.2) as running:
        wait_for(lambda: sum(len(uploaders_of(process.pid)) for process in running) == 1, 60)
        lead, other = sorted(running, key=lambda server: -len(uploaders_of(server.pid)))
        (uploader,) = uploaders_of(lead.pid)
        lead.send_signal(signal.SIGKILL)
        lead.wait()
        psutil.wait_procs([uploader], timeout=10)
        assert not uploader.is_running(), "the uploader outlived its worker"
        wait_for(lambda: len(uploaders_of(other.pid)) == 1, 60)
        before = len(bucket.ids())
        wait_for(lambda: len(bucket.ids()) > before, 60)
    assert reported(tmp_path)[1]


def test_a_worker_imports_neither_what_ships_nor_what_reads() -> None:
    code = (
        "import sys, humanseg.archive.capture.hook, humanseg.archive.capture.uploader_process;"
        "names = ('boto3', 'pyarrow', 'duckdb', 'humanseg.archive.ship');"
        "print([name for name in names if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
