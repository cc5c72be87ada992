"""The hook alone, without the network, fsync off and on."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.archive.samples import disc, exchange
from benchmarks.photos import SIZES, make_photo
from humanseg.archive.capture.hook import Archive, Outcome
from humanseg.archive.capture.settings import ArchiveSettings


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
                given = exchange(photo, mask, (size.width, size.height))
                began, worked = time.perf_counter(), time.thread_time()
                assert archive.keep(given) is Outcome.SPOOLED
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
