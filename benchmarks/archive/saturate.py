"""Full load without end: what lies in the spool, and what is dropped."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.archive.served import served, spool_of, users
from benchmarks.photos import write_photos
from benchmarks.servers import DATA


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
