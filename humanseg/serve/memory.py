"""Divides the memory of the machine or container between frontend, workers and photos."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

HEAP_SHARE = 0.25  # Java's heap: it holds a body of 64 MB two to three times while passing it on
DIRECT_SHARE = 0.125  # Java's direct memory: bodies arrive in it, and leave it for a worker
USABLE = 0.9
STORE_BYTES = 250_000_000  # the embedded store
WORKER_BYTES = 450_000_000  # a worker between photos
BYTES_A_PIXEL = 30  # measured maximum of a worker: 26, 1.73 GB for an RGBA PNG of 50 megapixels, as a cutout
CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def memory_bytes(groups: Path = OWN_GROUPS, root: Path = CGROUPS) -> int:
    """The memory limit of this process and its children: of the machine, the container, or the systemd unit."""
    total = int(psutil.virtual_memory().total)
    for path in _limits(groups, root):
        with contextlib.suppress(OSError, ValueError):  # "max" is not a number
            total = min(total, int(path.read_text()))
    return total


def pixel_budget(memory: int, workers: int) -> int:
    """Megapixels that all workers together may hold decoded at the same time, at least 1.

    >>> pixel_budget(4 * 2**30, 2), pixel_budget(32 * 2**30, 4)
    (36, 532)
    """
    free = memory * (USABLE - HEAP_SHARE - DIRECT_SHARE) - STORE_BYTES - workers * WORKER_BYTES
    return max(1, int(free / BYTES_A_PIXEL / 1e6))


def _limits(groups: Path, root: Path) -> Iterator[Path]:
    """The files with the limits of this process' cgroup and all above it (cgroups(7): version 2, or 1)."""
    for line in groups.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        place = base / path.lstrip("/")  # inside a container it may be the host's, and not be there
        yield from (parent / name for parent in (place, *place.parents) if parent.is_relative_to(base))
