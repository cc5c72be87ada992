"""Slots shared by the workers of a server: each slot has at most one holder.

Each byte of a file in STATE_DIR is a slot; holding it means locking that byte (fcntl). Nothing is read or written.
The kernel releases the locks when a process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Slots:
    """The slots in the file at `path`, and those that this worker holds."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._mine: set[int] = set()

    def take(self, first: int, size: int, count: int) -> bool:
        """Take `count` of the `size` slots from `first` on until `release`. False: too few are left."""
        taken: set[int] = set()
        for place in range(first, first + size):
            if len(taken) == count:
                break
            if place not in self._mine and self._lock(place):
                taken.add(place)
        if len(taken) < count:
            self._unlock(taken)
            return False
        self._mine |= taken
        return True

    def release(self) -> None:
        """Release all slots of this worker."""
        self._unlock(self._mine)
        self._mine = set()

    def _lock(self, place: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            return False
        return True

    def _unlock(self, places: set[int]) -> None:
        for place in places:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)
