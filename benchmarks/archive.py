"""What the archive costs, whether it keeps up, and how it answers over a million records. Results: ARCHIVE.md.

    .venv/bin/python -m benchmarks.archive keep        the hook alone, fsync off and on
    .venv/bin/python -m benchmarks.archive drain       from the spool to the embedded store; memory of the uploader
    .venv/bin/python -m benchmarks.archive cpu         CPU and throughput of a served photo, archived and not, in turn
    .venv/bin/python -m benchmarks.archive saturate    full load without end: what lies in the spool, what is dropped
    .venv/bin/python -m benchmarks.archive scale       `humanseg archive` over many records

`cpu` alternates blocks of requests with `x-archive: yes` and `no` on one server, so that a busy machine hits both
alike; what follows a block (the rest of the upload) counts to it. The users are threads of this process: they take
from the machine, but not from the CPU that is counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import requests
from PIL import Image

from benchmarks.photos import SIZES, make_photo, write_photos
from benchmarks.servers import CORES, DATA, ROOT, Running, ours, start
from benchmarks.usage import cpu_seconds, tree
from humanseg.archive.capture.hook import Archive, Outcome
from humanseg.archive.capture.names import make_name, records_root, segment_key, table_key
from humanseg.archive.capture.record import Exchange
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import Spool
from humanseg.archive.capture.telemetry import NoMetrics, RateLimitedLog
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.local_store import LocalStore
from humanseg.archive.ship.store import BucketSettings, Store
from humanseg.archive.ship.table import RECORDS, table_bytes
from humanseg.archive.ship.uploader import Uploader

SMALL = replace(SIZES["small"], width=96, height=72)  # of `scale`, where bytes do not matter


def disc(width: int, height: int) -> bytes:
    """A mask: a disc, as PNG."""
    y, x = np.mgrid[0:height, 0:width]
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
    out = BytesIO()
    Image.fromarray(np.where(inside, 255, 0).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def exchange(photo: bytes, mask: bytes, size: tuple[int, int], time_: datetime | None = None) -> Exchange:
    """An answered photo with a new id."""
    return Exchange(
        request_id=str(uuid.uuid4()),
        time=time_ or datetime.now(timezone.utc),
        model_name="human_segmentation",
        model_version="1.0",
        weights_sha256="0" * 64,
        photo=photo,
        photo_format="jpeg",
        width=size[0],
        height=size[1],
        mask_png=lambda: mask,
        options={"output": "mask"},
        coverage=0.3,
        confidence=0.9,
        stage_seconds={"forward": 0.05},
    )


# ---------------------------------------------------------------------- keep


def keep(folder: Path, number: int) -> dict[str, Any]:
    """Milliseconds a photo in the hook, without the network."""
    rows = {}
    for name, size in SIZES.items():
        photo, mask = make_photo(size), disc(size.width, size.height)
        for fsync in (False, True):
            state = folder / f"{name}-{fsync}"
            archive = Archive.start(ArchiveSettings(fsync=fsync), state, upload=False)
            took, cpu = [], []
            for _ in range(number):
                one = exchange(photo, mask, (size.width, size.height))
                began, worked = time.perf_counter(), time.thread_time()
                assert archive.keep(one) is Outcome.SPOOLED
                took.append((time.perf_counter() - began) * 1000)
                cpu.append((time.thread_time() - worked) * 1000)
            archive.close()
            took.sort()
            rows[f"{name}, {len(photo) / 1e6:.2f} MB, fsync {'on' if fsync else 'off'}"] = {
                "CPU ms": round(statistics.fmean(cpu), 2),
                "median ms": round(statistics.median(took), 2),
                "p95 ms": round(took[int(len(took) * 0.95)], 2),
            }
    return rows


# ---------------------------------------------------------------------- drain


def uploader_of(folder: Path, settings: ArchiveSettings) -> Uploader:
    return Uploader(
        Spool(folder / "spool"),
        lambda: Store.open(Destination.find({}, folder), BucketSettings.of(settings)),
        settings,
        metrics=NoMetrics(),
        log=RateLimitedLog(logging.getLogger("archive")),
    )


def drain(folder: Path, number: int, name: str) -> dict[str, Any]:
    """Records a second from the spool to the embedded store, and the uploader's memory on the way."""
    size = SIZES[name]
    photo, mask = make_photo(size), disc(size.width, size.height)
    settings = ArchiveSettings()
    archive = Archive.start(settings, folder, upload=False)
    for _ in range(number):
        archive.keep(exchange(photo, mask, (size.width, size.height)))
    archive.close()
    most, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            most[0] = max(most[0], psutil.Process().memory_info().rss / 1e6)

    with LocalStore(folder / "store") as store:
        assert store.process
        watcher = threading.Thread(target=watch)
        watcher.start()
        own, theirs, began = time.process_time(), cpu_seconds(store.process.pid), time.monotonic()
        done = uploader_of(folder, settings).drain(3600)
        took = time.monotonic() - began
        stop.set()
        watcher.join()
        own, theirs = time.process_time() - own, cpu_seconds(store.process.pid) - theirs
    return {
        "photo": f"{name}, {len(photo) / 1e6:.2f} MB",
        "records": done.shipped,
        "left": done.left.segments,
        "seconds": round(took, 1),
        "records per second": round(done.shipped / took, 1),
        "megabytes per second": round(done.shipped * (len(photo) + len(mask)) / took / 1e6, 1),
        "uploader CPU ms a record": round(own / done.shipped * 1000, 2),
        "store CPU ms a record": round(theirs / done.shipped * 1000, 2),
        "memory MB at most": round(most[0]),
    }


# ---------------------------------------------------------------------- a real server


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


def store_seconds(pid: int) -> float:
    """CPU seconds of the embedded store of a server."""
    used = [one.cpu_times() for one in tree(pid) if one.name() == "weed"]
    return sum(each.user + each.system for each in used)


def cpu(scratch: Path, pairs: int, seconds: float) -> dict[str, Any]:
    """CPU of a photo and throughput, archived and not; the uploader and the store included."""
    photos = write_photos(DATA / "photos")
    rows: dict[str, Any] = {}
    with served(scratch, photos) as server:
        for name in SIZES:
            users(server, photos[name], "no", seconds)
            costs: dict[str, list[float]] = {"yes": [], "no": []}
            apart: list[float] = []  # of the costs of archived photos, without the embedded store
            rates: dict[str, list[float]] = {"yes": [], "no": []}
            for pair in range(pairs):
                for archived in ("yes", "no") if pair % 2 else ("no", "yes"):
                    wait_empty(server)
                    before, theirs = cpu_seconds(server.process.pid), store_seconds(server.process.pid)
                    seen = users(server, photos[name], archived, seconds)
                    wait_empty(server)
                    used = cpu_seconds(server.process.pid) - before
                    costs[archived].append(used / seen.photos * 1000)
                    if archived == "yes":
                        used -= store_seconds(server.process.pid) - theirs
                        apart.append(used / seen.photos * 1000)
                    rates[archived].append(seen.rate)
            ratios = [yes / no for yes, no in zip(costs["yes"], costs["no"], strict=True)]
            elsewhere = [yes / no for yes, no in zip(apart, costs["no"], strict=True)]
            slower = [1 - yes / no for yes, no in zip(rates["yes"], rates["no"], strict=True)]
            rows[f"{name}, {photos[name].stat().st_size / 1e6:.2f} MB"] = {
                "CPU ms a photo, not archived": round(statistics.median(costs["no"]), 1),
                "CPU ms a photo, archived": round(statistics.median(costs["yes"]), 1),
                "ratio, median of pairs": round(statistics.median(ratios), 3),
                "ratio without the embedded store": round(statistics.median(elsewhere), 3),
                "all pairs": [round(ratio, 3) for ratio in ratios],
                "photos a second, not archived": round(statistics.median(rates["no"]), 1),
                "throughput lost, median of pairs": f"{statistics.median(slower):.1%}",
            }
    return rows


def saturate(scratch: Path, seconds: float, name: str) -> dict[str, Any]:
    """Full load for so long; what lies in the spool meanwhile, and how long the rest takes afterwards."""
    photos = write_photos(DATA / "photos")
    with served(scratch, photos) as server:
        spool, seen = spool_of(server), [(0, 0.0)]
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(1.0):
                backlog = spool.backlog()
                seen.append((backlog.bytes, backlog.oldest_seconds))

        watcher = threading.Thread(target=watch)
        watcher.start()
        load = users(server, photos[name], "yes", seconds)
        stop.set()
        watcher.join()
        began = time.monotonic()
        while not spool.is_empty() and time.monotonic() - began < 300:
            time.sleep(0.2)
        rest = time.monotonic() - began
    return {
        "photo": f"{name}, {photos[name].stat().st_size / 1e6:.2f} MB",
        "seconds": seconds,
        "answered": load.photos,
        "photos a second": round(load.rate, 1),
        "failed": load.failed,
        "dropped": load.dropped,
        "most in the spool, MB": round(max(size for size, _ in seen) / 1e6, 1),
        "oldest record in the spool, seconds at most": round(max(age for _, age in seen), 1),
        "seconds until everything was in the bucket": round(rest, 1),
    }


# ---------------------------------------------------------------------- scale


def rows_of(number: int, start_: datetime, seconds: float, segment: str, draw: np.random.Generator) -> pa.Table:
    """`number` made-up rows over `seconds`, of records whose photos are nowhere."""
    at = [start_ + timedelta(seconds=float(one)) for one in np.sort(draw.uniform(0, seconds, number))]
    digests = [draw.bytes(32).hex() for _ in range(number)]
    places = np.arange(number) * 60_000
    values: dict[str, Any] = {
        "request_id": [str(uuid.UUID(bytes=draw.bytes(16), version=4)) for _ in range(number)],
        "time": at,
        "photo_sha256": digests,
        "mask_sha256": digests,
        "coverage": draw.beta(2, 4, number),
        "confidence": draw.beta(9, 1, number),
        "sampling_probability": np.ones(number),
        "consent_asked": [None] * number,
        "label": [None] * number,
        "photo_offset": places + 512,
        "mask_offset": places + 50_000,
        "json_offset": places + 58_000,
    }
    constants: dict[str, Any] = {
        "model_name": "human_segmentation",
        "model_version": "1.0",
        "weights_sha256": "0" * 64,
        "photo_format": "jpeg",
        "sent_format": "jpeg",
        "width": 640,
        "height": 480,
        "photo_bytes": 49_000,
        "mask_bytes": 7_000,
        "output": "mask",
        "options": "{}",
        "consent_mode": "opt-out",
        "sampling_reason": "sample",
        "segment": segment,
        "replaces": "",
        "json_bytes": 1000,
    }
    for field in RECORDS:
        if field.name not in values:
            values[field.name] = [constants.get(field.name, 0)] * number
    return pa.table({field.name: pa.array(values[field.name], field.type) for field in RECORDS}, schema=RECORDS)


def command(folder: Path, *arguments: str) -> dict[str, float]:
    """Seconds, CPU seconds and megabytes of one `humanseg archive` command."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ARCHIVE_", "AWS_"))}
    full = [sys.executable, "-m", "humanseg.cli.main", "archive", *arguments]
    began = time.monotonic()
    process = subprocess.Popen(
        full, cwd=ROOT, env={**environment, "STATE_DIR": str(folder)}, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{arguments} ended with {process.returncode}"
    return {
        "seconds": round(time.monotonic() - began, 1),
        "CPU seconds": round(used.ru_utime + used.ru_stime, 1),
        "MB": round(used.ru_maxrss / 1024),
    }


def scale(folder: Path, records: int, whole: int, a_segment: int) -> dict[str, Any]:
    """Commands over `records` rows as tables alone, over 30 days, and `whole` records more with their segments."""
    draw, first = np.random.default_rng(1), datetime(2026, 10, 1, tzinfo=timezone.utc)
    photo, mask = make_photo(SMALL), disc(SMALL.width, SMALL.height)
    last_day, ids = first + timedelta(days=31, hours=12), []
    archive = Archive.start(ArchiveSettings(), folder, upload=False)
    for number in range(whole):
        # A photo's comment would be stripped, so that each is made different behind its start.
        one = exchange(_different(photo, number), mask, (96, 72), last_day + timedelta(seconds=number / 20))
        assert archive.keep(one) is Outcome.SPOOLED
        ids.append(one.request_id)
    archive.close()
    with LocalStore(folder / "store") as local:
        store = local.open_store()
        root, every = records_root(store.destination.prefix), timedelta(days=30) * a_segment / records
        for number in range(records // a_segment):
            name = make_name(first + every * number, "0badcafe", number + 1)
            table = rows_of(a_segment, name.time, every.total_seconds() * 0.9, segment_key(root, name), draw)
            store.put_new(table_key(root, name), table_bytes(table))
        uploader_of(folder, ArchiveSettings()).drain(600)
        (folder / "ids").write_text("\n".join(ids[:: max(1, whole // 1000)][:1000]))
        since = ("--since", "2026-09-01")
        day = f"{last_day:%Y-%m-%d}"
        chosen = ("--ids", str(folder / "ids"), "--to", str(folder / "data"))
        found = {
            "stats": command(folder, "stats", *since, "--json"),
            "ls --below-confidence 0.6": command(folder, "ls", "--below-confidence", "0.6"),
            "query, by day": command(folder, "query", "SELECT dt, count(*), avg(coverage) FROM records GROUP BY 1"),
            "show ID, with its day": command(folder, "show", ids[0], "--date", day, "--to", str(folder / "a.png")),
            "show ID, without": command(folder, "show", ids[0], "--to", str(folder / "a.png")),
            "export of 1000 chosen": command(folder, "export", *since, *chosen),
            "erase of one": command(folder, "erase", ids[1], "--yes"),
        }
    return {
        "records": f"{records // a_segment * a_segment} as tables of {a_segment} rows, {whole} more with segments",
        **found,
    }


def _different(photo: bytes, number: int) -> bytes:
    """Another JPEG of the same size: one with a restart marker's worth of its scan changed is still one."""
    digest = hashlib.sha256(str(number).encode()).digest()[:8]
    at = len(photo) - 200
    return photo[:at] + bytes(value & 0x7F for value in digest) + photo[at + 8 :]


def machine() -> str:
    """What the numbers were taken on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown CPU")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return f"{model}, {CORES} cores, load {os.getloadavg()[0]:.1f} before the run, commit {commit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("keep", "drain", "cpu", "saturate", "scale"))
    parser.add_argument("--records", type=int, default=0, help="default: 200 (keep), 2000 (drain), 1000000 (scale)")
    parser.add_argument("--whole", type=int, default=20_000, help="records with their bytes, for scale")
    parser.add_argument("--photo", choices=tuple(SIZES), default="typical", help="for drain and saturate")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of blocks, for cpu")
    parser.add_argument("--seconds", type=float, default=0.0, help="default: 8 of a block (cpu), 600 (saturate)")
    parser.add_argument("--folder", type=Path, help="where the data lies (default: a temporary folder)")
    given = parser.parse_args()
    about = machine()
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        folder = Path(scratch)
        if given.part == "keep":
            result = keep(folder, given.records or 200)
        elif given.part == "drain":
            result = drain(folder, given.records or 2000, given.photo)
        elif given.part == "cpu":
            result = cpu(folder / "server", given.pairs, given.seconds or 8)
        elif given.part == "saturate":
            result = saturate(folder / "server", given.seconds or 600, given.photo)
        else:
            result = scale(folder, given.records or 1_000_000, given.whole, 1000)
    print(json.dumps({"machine": about, given.part: result}, indent=2))


if __name__ == "__main__":
    main()
