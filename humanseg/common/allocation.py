"""glibc's allocator: how a process that handles pictures keeps their buffers for the next picture.

By default glibc returns large buffers to the kernel after each use, and the next picture pays for the page faults: a
sixth of a photo's time after the forward pass, a tenth of the CPU time of a 720p clip.
"""

from __future__ import annotations

import ctypes

# Name in the environment: number in malloc.h, value (bytes, bytes, arenas).
PARAMETERS = {
    "MALLOC_MMAP_THRESHOLD_": (-3, 32 << 20),
    "MALLOC_TRIM_THRESHOLD_": (-1, 64 << 20),
    "MALLOC_ARENA_MAX": (-8, 2),
}
ENVIRONMENT = {name: str(value) for name, (_, value) in PARAMETERS.items()}  # for processes that are started


def keep_freed_buffers() -> None:
    """Set the parameters of this process, where its C library has `mallopt` (macOS has none)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for number, value in PARAMETERS.values():
            mallopt(number, value)
