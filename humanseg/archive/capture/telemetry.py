"""Protocols for the archive's metrics and logs, so that it does not depend on a server.

Metric names (with units; they have the listed labels only):

    archive_spooled_total, archive_shipped_total                     counters: records
    archive_dropped_total{reason}, archive_rejected_total{reason}    counters: records, and damaged places in segments
    archive_spool_segments, archive_spool_bytes, archive_spool_oldest_seconds   gauges: the backlog
    archive_upload_seconds                                           histogram: one segment and its table
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol


class Metrics(Protocol):
    """A metrics backend. Called from the request's thread and from the uploader's."""

    def count(self, name: str, labels: Mapping[str, str], amount: int = 1) -> None:
        """Adds to a counter."""

    def gauge(self, name: str, value: float) -> None:
        """Sets a gauge."""

    def observe(self, name: str, value: float) -> None:
        """Adds a value to a histogram."""


class NoMetrics:
    """Counts nothing."""

    def count(self, name: str, labels: Mapping[str, str], amount: int = 1) -> None:
        """Does nothing."""

    def gauge(self, name: str, value: float) -> None:
        """Does nothing."""

    def observe(self, name: str, value: float) -> None:
        """Does nothing."""


class RateLimitedLog:
    """A rate-limited logger: at most one message of each kind per minute, with the number of suppressed ones."""

    def __init__(
        self,
        logger: logging.Logger,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger, self._seconds, self._clock = logger, seconds, clock
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def warning(self, kind: str, message: str) -> None:
        """Logs `message`, unless one of the same `kind` was logged within the last minute."""
        with self._lock:
            now = self._clock()
            if now - self._last.get(kind, float("-inf")) < self._seconds:
                self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
                return
            self._last[kind] = now
            unsaid = self._unsaid.pop(kind, 0)
        self._logger.warning("%s%s", message, f" ({unsaid} similar messages suppressed)" if unsaid else "")
