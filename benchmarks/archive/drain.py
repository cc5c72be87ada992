"""From the spool to the embedded store, and the memory of the uploader."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.archive.samples import disc, exchange, uploader_of
from benchmarks.photos import SIZES, make_photo
from benchmarks.usage import cpu_seconds
from humanseg.archive.capture.hook import Archive
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.ship.local_store import LocalStore


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
        result = uploader_of(folder, settings).drain(3600)
        took = time.monotonic() - began
        stop.set()
        watcher.join()
        own, theirs = time.process_time() - own, cpu_seconds(store.process.pid) - theirs
    return {
        "photo": f"{name}, {len(photo) / 1e6:.2f} MB",
        "records": result.shipped,
        "left": result.left.segments,
        "seconds": round(took, 1),
        "records per second": round(result.shipped / took, 1),
        "megabytes per second": round(result.shipped * (len(photo) + len(mask)) / took / 1e6, 1),
        "uploader CPU ms a record": round(own / result.shipped * 1000, 2),
        "store CPU ms a record": round(theirs / result.shipped * 1000, 2),
        "memory MB at most": round(most[0]),
    }
