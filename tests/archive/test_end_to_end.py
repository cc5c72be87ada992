"""Real servers under load, killed, cut off from their store and short of disk: every acknowledged record arrives.

Each test counts records in (answers with `x-archived: spooled`) against records out (committed in the bucket), by
id and by the photo's bytes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from humanseg.archive.capture.spool import Spool, records_of
from humanseg.archive.read.reader import Reader
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.local_store import LocalStore
from humanseg.archive.ship.store import BucketSettings, Store
from tests.archive import photos
from tests.archive.faults import FAULTS, FaultyProxy
from tests.archive.helpers import Bucket, bucket_of
from tests.archive.load import Load
from tests.archive.shipping import wait_for
from tests.running import Server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MakeServer = Callable[..., Server]


@contextlib.contextmanager
def own_store(folder: Path) -> Iterator[LocalStore]:
    """A store that the test may kill; the server is told of it as of any other S3."""
    with LocalStore(folder / "store") as local:
        yield local


def spool_of(server: Server) -> Spool:
    return Spool(server.state_dir / "spool")


def waiting_records(spool: Spool) -> int:
    """Records in the spool, wherever they stand."""
    return sum(len(records_of(path)) for path in spool.files())


def wait_shipped(server: Server, seconds: float = 90) -> None:
    wait_for(lambda: shipped(server), seconds)


def shipped(server: Server) -> bool:
    """Whether everything is in the bucket; what is small is not waited for, but asked for."""
    spool = spool_of(server)
    if not spool.is_empty():
        spool.request_flush()
    return spool.is_empty()


def embedded_bucket(server: Server) -> Bucket:
    """The bucket of the server's own store, as another shell finds it: through STATE_DIR alone."""
    destination = Destination.find({}, server.state_dir)
    return Bucket(Store.open(destination, BucketSettings(timeout_seconds=10), retries=4), {})


def test_a_photo_with_everything_in_it_arrives_bare(server: Server) -> None:
    sent = photos.phone_photo("jpeg", orientation=6, width=480, height=320)
    headers = {"Content-Type": "image/jpeg", "x-archive": "yes", "x-label": "café".encode()}
    answer = requests.post(server.predictions, data=sent, headers=headers, timeout=60)
    assert (answer.status_code, answer.headers["x-archived"]) == (200, "spooled")
    request_id = answer.headers["x-request-id"]
    wait_shipped(server)
    reader = Reader(embedded_bucket(server).store)
    row = reader.find(request_id)
    assert row
    everything = reader.get(row["segment"])
    assert all(secret not in everything for secret in photos.secrets_of("jpeg"))
    assert (row["width"], row["height"]) == (320, 480)
    assert 0 < row["brightness"] < 1 and 0 < row["contrast"] < 0.5 and row["sharpness"] > 0
    assert (row["label"], row["consent_asked"]) == ("café", True)
    assert reader.photo_and_mask(row)[1] == answer.content, "the archived mask is the one that was answered"


def test_who_declines_is_not_kept(server: Server) -> None:
    photo, headers = photos.jpeg(1), {"Content-Type": "image/jpeg", "x-archive": "no"}
    answer = requests.post(server.predictions, data=photo, headers=headers, timeout=60)
    assert (answer.status_code, answer.headers["x-archived"]) == (200, "declined")
    wait_shipped(server)
    assert Reader(embedded_bucket(server).store).find(answer.headers["x-request-id"]) is None


def test_workers_killed_under_load(make_server: MakeServer, bucket: Bucket) -> None:
    server = make_server(WORKERS="2", **bucket.environment)
    with Load(server.predictions) as load:
        for _ in range(4):
            enough = len(load.acknowledged) + 15
            wait_for(lambda enough=enough: len(load.acknowledged) >= enough, 90)  # type: ignore[misc]
            for pid in server.worker_pids()[:1]:
                os.kill(pid, signal.SIGKILL)
            time.sleep(1.0)
        enough = len(load.acknowledged) + 15
        wait_for(lambda: len(load.acknowledged) >= enough, 90)
    wait_shipped(server)
    bucket.assert_holds(load.acknowledged)
    assert "200 dropped" not in load.outcomes


def test_the_whole_server_killed_and_started_again(make_server: MakeServer, tmp_path: Path) -> None:
    """With the embedded store, which goes down as well; the command finds the archive from another shell."""
    first = make_server(WORKERS="1")
    with Load(first.predictions) as load:
        wait_for(lambda: len(load.acknowledged) >= 60)
        family = [
            *psutil.Process(first.process.pid).children(recursive=True),
            psutil.Process(first.process.pid),
        ]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    first.process.wait()
    psutil.wait_procs(family, timeout=10)
    assert set(load.outcomes) <= {"200 spooled", "ConnectionError", "ChunkedEncodingError", "503"}
    again = make_server(WORKERS="1", STATE_DIR=str(first.state_dir))
    wait_shipped(again)
    embedded_bucket(again).assert_holds(load.acknowledged)
    environment = {**os.environ, "STATE_DIR": str(first.state_dir)}
    command = [sys.executable, "-m", "humanseg.cli.main", "archive", "verify"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert ", 0 problems" in result.stdout


def test_the_store_away_under_load_then_back_then_killed(make_server: MakeServer, tmp_path: Path) -> None:
    with own_store(tmp_path) as local:
        bucket = bucket_of(local)
        server = make_server(WORKERS="1", **bucket.environment)
        with Load(server.predictions, threads=2, pause=0.3) as load:
            wait_for(lambda: len(load.acknowledged) >= 10)
            before_away = len(bucket.objects())
            local.stop()
            before, spool = len(load.acknowledged), spool_of(server)
            wait_for(lambda: len(load.acknowledged) >= before + 20 and waiting_records(spool) > 0)
            spool.request_flush()
            wait_for(lambda: len(spool.groups()) > 0)
            wait_for(lambda: len(load.acknowledged) >= before + 40)  # while uploads fail
            local.start()
            local.wait_ready()
            wait_for(lambda: len(bucket.objects()) > before_away, 90)
            assert local.process is not None
            local.process.kill()  # in the middle of taking the backlog
            local.process.wait()
            time.sleep(2)
            local.start()
            local.wait_ready()
        wait_shipped(server, 180)
        assert load.failed == {}, "a request failed because of the archive"
        assert set(load.outcomes) == {"200 spooled"}
        bucket.assert_holds(load.acknowledged)


def test_a_misbehaving_store_fails_no_request(
    make_server: MakeServer, local_store: LocalStore, tmp_path: Path
) -> None:
    with FaultyProxy(local_store.environment()["ARCHIVE_ENDPOINT_URL"]) as proxy:
        bucket = bucket_of(local_store, proxy.url)
        server = make_server(WORKERS="1", **bucket.environment)
        with Load(server.predictions, pause=0.1) as load:
            wait_for(lambda: len(load.acknowledged) >= 30, 120)
        wait_for(lambda: set(proxy.seen) == set(FAULTS) or shipped(server), 120)
        proxy.faults = ("pass",)
        wait_shipped(server, 180)
        assert set(load.outcomes) == {"200 spooled"}
        bucket.assert_holds(load.acknowledged)


def test_sigterm_under_load_drains(make_server: MakeServer, bucket: Bucket) -> None:
    server = make_server(WORKERS="2", **bucket.environment)
    with Load(server.predictions) as load:
        wait_for(lambda: len(load.acknowledged) >= 40)
        assert server.stop(signal.SIGTERM) == 0
    assert spool_of(server).is_empty(), "\n".join(server.output)
    bucket.assert_holds(load.acknowledged)


def test_a_stop_without_a_store_says_what_is_left_and_the_next_start_ships_it(
    make_server: MakeServer, bucket: Bucket
) -> None:
    nobody = {**bucket.environment, "ARCHIVE_ENDPOINT_URL": "http://127.0.0.1:9"}
    server = make_server(WORKERS="1", STOP_DEADLINE="15", **nobody)
    with Load(server.predictions, threads=1) as load:
        wait_for(lambda: len(load.acknowledged) >= 5)
    assert server.stop(signal.SIGTERM) == 0
    assert waiting_records(spool_of(server)) == len(load.acknowledged)
    left = spool_of(server).backlog().segments
    assert any(f'"segments_left_in_spool": {left}' in line for line in server.output), "\n".join(server.output)
    again = make_server(WORKERS="1", STATE_DIR=str(server.state_dir), **bucket.environment)
    wait_shipped(again)
    bucket.assert_holds(load.acknowledged)


def test_a_full_disk_drops_records_and_fails_no_request(
    make_server: MakeServer, small_disk: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "spool").symlink_to(small_disk)
    environment = {
        "ARCHIVE_BUCKET": "archive",
        "ARCHIVE_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    (small_disk / "ballast").write_bytes(b"x" * 1_900_000)
    server = make_server(WORKERS="1", STATE_DIR=str(state), **environment)
    with Load(server.predictions) as load:
        wait_for(lambda: load.outcomes["200 dropped"] >= 20, 60)
    assert load.failed == {}
    metrics = requests.get(server.metrics_url, timeout=10).text
    assert "archive_dropped_total" in metrics
