"""Child processes that do not outlive their parent."""

from __future__ import annotations

import ctypes
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Loaded here, before a fork: a child between fork and exec must not load libraries.
_libc = ctypes.CDLL(None)


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Make the kernel send signal `number` to this process when its parent ends. For `preexec_fn` (prctl(2))."""
    _libc.prctl(PR_SET_PDEATHSIG, number)
