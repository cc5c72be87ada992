"""Fill spools, upload them, and run worker processes that do both."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from humanseg.archive.capture.hook import Archive, Outcome
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import Spool, records_of
from humanseg.archive.capture.telemetry import RateLimitedLog
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.store import BucketSettings, Store
from humanseg.archive.ship.uploader import Uploader
from tests.archive.helpers import FAST, Bucket, Numbers, digest, exchange

ROOT = Path(__file__).resolve().parents[2]


def writer(state_dir: Path, **settings: object) -> Archive:
    """An archive that only spools."""
    return Archive.start(ArchiveSettings(**{**FAST, **settings}), state_dir, upload=False)


def fill(state_dir: Path, number: int, *, start: int = 0, **changes: object) -> dict[str, str]:
    """`number` records in one sealed segment, as id -> SHA-256 of the photo."""
    archive, acknowledged = writer(state_dir), {}
    for index in range(start, start + number):
        given = exchange(index, **changes)
        assert archive.keep(given) is Outcome.SPOOLED
        acknowledged[given.request_id] = digest(given.photo)
    archive.close()
    return acknowledged


def spool_at(state_dir: Path) -> Spool:
    return Spool(state_dir / "spool")


def waiting(state_dir: Path) -> list[str]:
    """Ids of the records in the spool, wherever they stand."""
    return [record.request_id for path in spool_at(state_dir).files() for record in records_of(path)]


def uploader_for(state_dir: Path, bucket: Bucket, numbers: Numbers | None = None, **settings: object) -> Uploader:
    chosen = ArchiveSettings(**{**FAST, "segment_seconds": 0.1, **settings})

    def connect() -> Store:
        environment = bucket.environment
        destination = Destination.find(environment, state_dir)
        keys = (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
        return Store.open(
            Destination(destination.bucket, destination.prefix, destination.endpoint_url, destination.region, *keys),
            BucketSettings.of(chosen),
        )

    log = RateLimitedLog(logging.getLogger("test"))
    return Uploader(spool_at(state_dir), connect, chosen, metrics=numbers or Numbers(), log=log)


@contextlib.contextmanager
def workers(
    bucket: Bucket, state_dir: Path, count: int, *, seconds: float, pause: float
) -> Iterator[list[subprocess.Popen[str]]]:
    """Worker processes that keep photos; their reports are read with `reported` after the block."""
    command = [sys.executable, "-m", "tests.archive.worker", str(state_dir), str(seconds), str(pause)]
    environment = {**os.environ, **bucket.environment}
    running: list[subprocess.Popen[str]] = []
    for number in range(count):
        path = state_dir / f"reported-{os.getpid()}-{number}-{time.monotonic_ns()}"
        with path.open("w") as output:
            running.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, text=True))
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


def reported(state_dir: Path) -> tuple[dict[str, str], list[str]]:
    """(acknowledged records, all outcomes) from what the workers wrote. The last line may be half."""
    acknowledged, outcomes = {}, []
    for path in state_dir.glob("reported-*"):
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
