"""A real server with its embedded store, and users that send it photos."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from benchmarks.servers import CORES, ROOT, Running, ours, start
from humanseg.archive.capture.spool import Spool


@contextmanager
def served(scratch: Path, photos: dict[str, Path]) -> Iterator[Running]:
    """A server with one worker a core, the embedded store, and everything default."""
    subprocess.run([sys.executable, "-m", "humanseg.serve.build_mar", "--if-stale"], cwd=ROOT, check=True)
    running = start(ours("ours", ROOT / "model_store" / "human_segmentation.mar"), scratch, photos["small"])
    try:
        yield running
    finally:
        running.stop()


def spool_of(server: Running) -> Spool:
    return Spool(server.state / "served" / "spool")


@dataclass(frozen=True)
class Block:
    """What users saw: good answers, how many a second, records dropped, and all other answers."""

    photos: int
    rate: float
    dropped: int
    failed: int


def users(server: Running, photo: Path, archived: str, seconds: float, number: int = 4 * CORES) -> Block:
    """`number` users that send the photo again and again for so long."""
    url, data = server.target(photo, "mask").url, photo.read_bytes()
    headers = {"content-type": "image/jpeg", "x-archive": archived}
    until, answers = time.monotonic() + seconds, Counter[str]()
    expected = "200 spooled" if archived == "yes" else "200 declined"

    def user() -> None:
        with requests.Session() as session:
            while time.monotonic() < until:
                answer = session.post(url, data=data, headers=headers, timeout=60)
                answers[f"{answer.status_code} {answer.headers.get('x-archived')}"] += 1

    threads = [threading.Thread(target=user) for _ in range(number)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    good = answers[expected]
    dropped = answers["200 dropped"]
    return Block(good, good / (time.monotonic() - began), dropped, answers.total() - good - dropped)


def wait_empty(server: Running, seconds: float = 120) -> float:
    """Seconds until everything is in the bucket, asked for at once."""
    began, spool = time.monotonic(), spool_of(server)
    while not spool.is_empty():
        spool.request_flush()
        time.sleep(0.5)
        if time.monotonic() - began > seconds:
            raise RuntimeError(f"{spool.backlog()} is left after {seconds:.0f} s")
    return time.monotonic() - began
