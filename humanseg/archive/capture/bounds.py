"""The spool's size limit, checked before each append."""

from __future__ import annotations

import os
import threading

from humanseg.archive.capture.spool import Spool


class SpoolFullError(Exception):
    """The record does not fit; `reason` is the counter's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Bounds:
    """The spool's size as known to this process: the last full count, plus its own appends since."""

    def __init__(self, spool: Spool, *, max_bytes: int, keep_free_bytes: int) -> None:
        self._spool, self._max_bytes, self._keep_free_bytes = spool, max_bytes, keep_free_bytes
        self._lock = threading.Lock()
        self._bytes = 0
        self.recount()

    def recount(self) -> None:
        """Recounts everything in the spool: of all processes, quarantined, and of earlier runs."""
        backlog = self._spool.backlog()
        with self._lock:
            self._bytes = backlog.bytes + backlog.rejected_bytes

    def take(self, size: int) -> None:
        """Reserves `size` bytes.

        Raises:
            SpoolFullError: the limit would be exceeded ("spool-full") or the disk is nearly full ("disk-low").
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
        """Releases a reservation whose record was not written."""
        with self._lock:
            self._bytes -= size
