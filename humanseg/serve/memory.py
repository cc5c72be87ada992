"""Divides the memory of the machine or container between frontend, workers and photos."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

FRONTEND_SHARE = 0.25  # Java's heap: it holds a body of 64 MB two to three times while passing it on
USABLE = 0.9
STORE_BYTES = 250_000_000  # the embedded store
WORKER_BYTES = 450_000_000  # a worker between photos
BYTES_A_PIXEL = 40  # measured maximum of a worker: 2 GB for a 16-bit PNG of 50 megapixels, as a cutout
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_bytes() -> int:
    """The memory limit of this process and its children."""
    total = int(psutil.virtual_memory().total)
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" is not a number
            total = min(total, int(Path(path).read_text()))
    return total


def pixel_budget(memory: int, workers: int) -> int:
    """Megapixels that all workers together may hold decoded at the same time, at least 1.

    >>> pixel_budget(4 * 2**30, 2), pixel_budget(32 * 2**30, 4)
    (41, 507)
    """
    free = memory * (USABLE - FRONTEND_SHARE) - STORE_BYTES - workers * WORKER_BYTES
    return max(1, int(free / BYTES_A_PIXEL / 1e6))
