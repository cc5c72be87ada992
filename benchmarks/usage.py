"""What a server costs: CPU seconds and resident memory of a process and all that it started."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Resident:
    """Resident memory in MB: of all processes together, and of the largest one that does the photos."""

    total: float
    worker: float


def tree(pid: int) -> list[psutil.Process]:
    """The process and its descendants that are alive."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pid: int) -> float:
    """User and system time that the tree has used so far, with ended processes whose parent has waited for them."""
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def resident(pid: int) -> Resident:
    """Of workers, that is processes running Python, only the largest counts as `worker`."""
    total, worker = 0.0, 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            megabytes = process.memory_info().rss / 1e6
            total += megabytes
            if "python" in process.name().lower() or "python" in " ".join(process.cmdline()[:1]):
                worker = max(worker, megabytes)
    return Resident(total, worker)
