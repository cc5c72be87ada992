"""What the archive costs, and how fast its spool drains. Last results: benchmarks/ARCHIVE.md.

    .venv/bin/python benchmarks/archive.py keep      the hook alone, fsync off and on
    .venv/bin/python benchmarks/archive.py drain     10,000 records from the spool to the embedded store, and memory
    .venv/bin/python benchmarks/archive.py serve     a real server at full load, with and without archiving

`serve` alternates blocks of requests with `x-archive: yes` and `no` on one server, so that a busy machine hits both
alike; the cost is the median over pairs of blocks. Each pair swaps its order. Before a block the spool is empty.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from humanseg.archive.ship.shipper import Shipper  # noqa: E402

from benchmarks.local_server import Server, start_server  # noqa: E402
from humanseg.archive.capture.hook import Archive  # noqa: E402
from humanseg.archive.capture.record import Exchange  # noqa: E402
from humanseg.archive.capture.settings import ArchiveSettings  # noqa: E402
from humanseg.archive.capture.spool import Spool  # noqa: E402
from humanseg.archive.capture.telemetry import NoMetrics, SparseLog  # noqa: E402
from humanseg.archive.errors import Away  # noqa: E402
from humanseg.archive.ship.local_store import LocalStore  # noqa: E402
from humanseg.archive.ship.store import Store  # noqa: E402
from humanseg.archive.ship.target import Target  # noqa: E402


def photo(width: int, height: int) -> bytes:
    """The astronaut at the given size, as a JPEG of quality 90."""
    out = io.BytesIO()
    with Image.open(ROOT / "tests" / "photos" / "astronaut.jpg") as image:
        image.convert("RGB").resize((width, height)).save(out, "JPEG", quality=90)
    return out.getvalue()


def mask(width: int, height: int) -> bytes:
    """A disc, as PNG."""
    y, x = np.mgrid[0:height, 0:width]
    disc = np.where((x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2, 255, 0)
    out = io.BytesIO()
    Image.fromarray(disc.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def exchange(data: bytes, png: bytes, width: int, height: int) -> Exchange:
    return Exchange(
        request_id=str(uuid.uuid4()),
        time=datetime.now(timezone.utc),
        model_name="human_segmentation",
        model_version="1.0",
        weights_sha256="0" * 64,
        photo=data,
        photo_format="jpeg",
        width=width,
        height=height,
        mask_png=lambda: png,
        options={"output": "mask"},
        coverage=0.3,
        confidence=0.9,
        stage_seconds={"forward": 0.05},
    )


def never() -> Store:
    raise Away("not in this benchmark")


def keep(folder: Path, number: int) -> dict[str, Any]:
    """Milliseconds per photo in the hook, without the network."""
    rows = {}
    for width, height in ((512, 512), (4032, 3024)):
        data, png = photo(width, height), mask(width, height)
        for fsync in (False, True):
            settings = ArchiveSettings(fsync=fsync)
            archive = Archive.start(settings, folder / f"{width}-{fsync}", open_store=never)
            took, cpu = [], []
            for _ in range(number):
                one = exchange(data, png, width, height)
                began, worked = time.perf_counter(), time.thread_time()
                archive.keep(one)
                took.append((time.perf_counter() - began) * 1000)
                cpu.append((time.thread_time() - worked) * 1000)
            assert archive.shipper is not None
            archive.shipper.stop()
            took.sort()
            rows[f"{width}x{height}, {len(data) / 1e6:.2f} MB, fsync {'on' if fsync else 'off'}"] = {
                "CPU ms": round(statistics.fmean(cpu), 2),
                "median ms": round(statistics.median(took), 2),
                "p95 ms": round(took[int(len(took) * 0.95)], 2),
            }
    return rows


def drain(folder: Path, number: int) -> dict[str, Any]:
    """Records per second from spool to store, and the shipper's memory on the way."""
    data, png = photo(512, 512), mask(512, 512)
    settings = ArchiveSettings()
    archive = Archive.start(settings, folder, open_store=never)
    for _ in range(number):
        archive.keep(exchange(data, png, 512, 512))
    assert archive.shipper is not None
    archive.shipper.stop()
    memory: list[tuple[int, float]] = []
    with LocalStore(folder / "store"):
        shipper = Shipper(
            Spool(folder / "spool"),
            lambda: Store.open(Target.find({}, folder), settings),
            settings,
            metrics=NoMetrics(),
            log=SparseLog(logging.getLogger("archive")),
        )
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(1.0):
                memory.append((shipper.shipped, psutil.Process().memory_info().rss / 1e6))

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.monotonic()
        done = shipper.drain(3600, threads=4)
        took = time.monotonic() - began
        stop.set()
        watcher.join()
    tenths = [max((mb for at, mb in memory if at <= number * part / 10), default=0.0) for part in range(1, 11)]
    return {
        "records": done.shipped,
        "left": done.left.records,
        "seconds": round(took, 1),
        "records per second": round(done.shipped / took, 1),
        "megabytes per second": round(done.shipped * (len(data) + len(png)) / took / 1e6, 1),
        "memory in MB after each tenth": [round(mb) for mb in tenths],
    }


def block(server: Server, data: bytes, archived: str, seconds: float, users: int) -> tuple[float, float]:
    """(photos per second, median latency in ms) of `users` at full load."""
    until, latencies, lock = time.monotonic() + seconds, [], threading.Lock()

    def user() -> None:
        with requests.Session() as session:
            headers = {"Content-Type": "image/jpeg", "x-archive": archived}
            while time.monotonic() < until:
                began = time.perf_counter()
                answer = session.post(server.predictions, data=data, headers=headers, timeout=60)
                took = time.perf_counter() - began
                assert answer.headers["x-archived"] == ("spooled" if archived == "yes" else "declined")
                with lock:
                    latencies.append(took * 1000)

    threads = [threading.Thread(target=user) for _ in range(users)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(latencies) / (time.monotonic() - began), statistics.median(latencies)


def wait_shipped(server: Server) -> float:
    """Seconds until the spool is empty."""
    began = time.monotonic()
    while Spool(server.state_dir / "spool").ready():
        time.sleep(0.1)
    return time.monotonic() - began


def serve(folder: Path, pairs: int, seconds: float) -> dict[str, Any]:
    """The share of throughput and latency that archiving costs."""
    cores = os.cpu_count() or 1
    server = start_server(folder, WORKERS=str(cores))
    rows = {}
    try:
        for width, height in ((512, 512), (2048, 1536)):
            data = photo(width, height)
            block(server, data, "no", 5, 2 * cores)
            costs, delays, on, off, after = [], [], [], [], []
            for pair in range(pairs):
                found = {}
                for archived in ("yes", "no") if pair % 2 else ("no", "yes"):
                    found[archived] = block(server, data, archived, seconds, 2 * cores)
                    if archived == "yes":
                        after.append(wait_shipped(server))
                on.append(found["yes"][0])
                off.append(found["no"][0])
                costs.append(1 - found["yes"][0] / found["no"][0])
                delays.append(found["yes"][1] / found["no"][1] - 1)
            rows[f"{width}x{height}, {len(data) / 1e6:.2f} MB"] = {
                "photos per second, archiving": round(statistics.median(on), 2),
                "photos per second, not archiving": round(statistics.median(off), 2),
                "cost in throughput, median of pairs": f"{statistics.median(costs):.1%}",
                "all pairs": [f"{cost:.1%}" for cost in costs],
                "cost in median latency": f"{statistics.median(delays):.1%}",
                "seconds until the spool was empty": [round(one, 1) for one in after],
            }
    finally:
        server.stop(signal.SIGTERM)
    return rows


def machine() -> str:
    """What the numbers were taken on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown CPU")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, load {load:.1f} before the run, commit {commit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("keep", "drain", "serve"))
    parser.add_argument("--records", type=int, default=10_000, help="for drain")
    parser.add_argument("--pairs", type=int, default=6, help="pairs of blocks, for serve")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one block, for serve")
    parser.add_argument("--folder", type=Path, default=None, help="where the spool lies (default: a temporary one)")
    chosen = parser.parse_args()
    where = machine()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as scratch:
        folder = Path(scratch)
        if chosen.what == "keep":
            result = keep(folder, 200)
        elif chosen.what == "drain":
            result = drain(folder, chosen.records)
        else:
            result = serve(folder / "state", chosen.pairs, chosen.seconds)
    print(json.dumps({"machine": where, chosen.what: result}, indent=2))


if __name__ == "__main__":
    main()
