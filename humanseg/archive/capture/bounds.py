"""The room that the spool may take, checked before each append."""

from __future__ import annotations

import os
import threading

from humanseg.archive.capture.spool import Spool


class SpoolFullError(Exception):
    """The record does not fit; `reason` is the word for the counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Bounds:
    """What this process knows of the spool's size: the last count of everything, and its own appends since."""

    def __init__(self, spool: Spool, *, max_bytes: int, keep_free_bytes: int) -> None:
        self._spool, self._max_bytes, self._keep_free_bytes = spool, max_bytes, keep_free_bytes
        self._lock = threading.Lock()
        self._bytes = 0
        self.recount()

    def recount(self) -> None:
        """Counts anew what all processes wrote, shipped and set aside, and what an earlier run left."""
        backlog = self._spool.backlog()
        with self._lock:
            self._bytes = backlog.bytes + backlog.rejected_bytes

    def take(self, size: int) -> None:
        """Makes room for `size` bytes.

        Raises:
            SpoolFullError: the bound would be passed ("spool-full") or the disk is short ("disk-low").
        """
        with self._lock:
            if self._bytes + size > self._max_bytes:
                raise SpoolFullError("spool-full")
            if self._keep_free_bytes:
                self._spool.make_folders()
                disk = os.statvfs(self._spool.root)
                if disk.f_bavail * disk.f_frsize - size < self._keep_free_bytes:
                    raise SpoolFullError("disk-low")
            self._bytes += size

    def give_back(self, size: int) -> None:
        """Says that a record for which room was taken was not written."""
        with self._lock:
            self._bytes -= size
