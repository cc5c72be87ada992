"""Uploads the spool: seals segments without a writer, freezes groups, uploads tar then table, deletes the group.

    python -m humanseg.archive.ship.uploader STATE_DIR SETTINGS      until EOF on standard input

A spool has one active uploader: it holds the lock on `spool/shipping`, which ends with it; another one waits and
takes over. It lists the folders anew each time, so leftovers of earlier uploaders are shipped, too. The table is
uploaded last and marks the segment as committed.

An unreachable store is retried indefinitely with full-jitter back-off: a pause uniform in 0..min(cap, base *
2**failures) (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). A group that is refused
`refused_attempts` times moves to rejected/; until then it does not block other groups.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from humanseg.archive.capture.names import segment_key, table_key
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import SHIPPING, Backlog, Spool, claimed, remove_folder, segment_name
from humanseg.archive.capture.telemetry import Metrics, RateLimitedLog
from humanseg.archive.capture.uploader_process import take_lead
from humanseg.archive.errors import Away, NoStore, Refused
from humanseg.archive.ship import groups
from humanseg.archive.ship.store import Store
from humanseg.archive.ship.table import KINDS, to_parquet
from humanseg.common.settings import SettingsError

TICK_SECONDS = 0.5  # between two scans of the spool
COUNT_SECONDS = 5.0  # between two counts of the spool for the gauges
FLUSH_SECONDS = 3.0  # after a flush request, for which everything sealed is uploaded at once
GATHER_SECONDS = 1.5  # until every worker has sealed; they check twice a second
DRAIN_CAP_SECONDS = 1.0  # a drain has a deadline, so it retries more often
REOPEN_AFTER = 4  # consecutive failures until address and keys are looked up again


@dataclass(frozen=True)
class Drained:
    """The result of a drain: records shipped and rejected, and the remaining backlog."""

    shipped: int
    rejected: int
    left: Backlog


class Uploader:
    """Ships one spool. It has no state that a SIGKILL could corrupt."""

    def __init__(
        self,
        spool: Spool,
        open_store: Callable[[], Store],
        settings: ArchiveSettings,
        *,
        metrics: Metrics,
        log: RateLimitedLog,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._spool, self._open_store, self._settings = spool, open_store, settings
        self._metrics, self._log, self._monotonic, self._jitter = metrics, log, monotonic, jitter
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._store: Store | None = None
        self._flying: dict[str, threading.Thread] = {}
        self._not_before: dict[str, float] = {}
        self._refusals: dict[str, int] = {}
        self._failures, self._away_until = 0, float("-inf")
        self._cap = settings.backoff_cap_seconds
        self._paced, self._small_at = True, float("-inf")
        self._flushed, self._unpaced_until = spool.flush_requested(), float("-inf")
        self._gather_until: float | None = None
        self._thread: threading.Thread | None = None
        self.shipped = self.rejected = 0

    def start(self) -> None:
        """Starts the shipping threads."""
        self._thread = threading.Thread(target=self._run, name="archive-upload", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Stops the threads; an upload in progress gets `seconds` to finish."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def drain(self, deadline_seconds: float) -> Drained:
        """Ships until the spool is empty or the deadline has passed, then stops. Call it instead of `start`."""
        until = self._monotonic() + deadline_seconds
        self._cap, self._paced = min(self._cap, DRAIN_CAP_SECONDS), False
        self._spool.request_flush()
        self.start()
        while self._monotonic() < until and not self._spool.is_empty():
            time.sleep(0.05)
        self.stop(max(0.1, min(5.0, until - self._monotonic())))
        return Drained(self.shipped, self.rejected, self._spool.backlog())

    # ------------------------------------------------------------------ the main thread

    def _run(self) -> None:
        lead, counted = -1, float("-inf")
        try:
            while not self._stop.is_set():
                try:
                    if lead < 0:
                        lead = self._take_lead()
                    if lead >= 0:
                        self._step()
                        if self._monotonic() - counted >= COUNT_SECONDS:
                            self._show()
                            counted = self._monotonic()
                except Exception as error:  # a crash would lose nothing, but stop uploads
                    self._log.warning("uploader", f"the uploader continues after {error!r}")
                self._stop.wait(TICK_SECONDS if self._paced else 0.02)
        finally:
            for thread in self._flying.values():
                thread.join()
            if lead >= 0:
                os.close(lead)

    def _take_lead(self) -> int:
        self._spool.make_folders()
        try:
            lead = take_lead(self._spool.root / SHIPPING)
        except OSError:
            return -1
        groups.sweep(self._spool)
        return lead

    def _step(self) -> None:
        self._spool.seal_orphans()
        self._fix_groups()
        self._flying = {name: thread for name, thread in self._flying.items() if thread.is_alive()}
        waiting = self._spool.groups()
        self._forget({group.name for group in waiting})
        for group in waiting:
            now = self._monotonic()
            if now < self._away_until or len(self._flying) >= self._settings.upload_threads:
                return
            if group.name not in self._flying and self._not_before.get(group.name, now) <= now:
                thread = threading.Thread(target=self._ship_claimed, args=(group,), daemon=True)
                self._flying[group.name] = thread
                thread.start()

    def _fix_groups(self) -> None:
        """Full segments at once; small ones merged, and not more often than a worker seals one."""
        now, full = self._monotonic(), self._settings.segment_bytes * 3 // 4
        if (asked := self._spool.flush_requested()) != self._flushed:
            self._flushed, self._unpaced_until = asked, now + FLUSH_SECONDS
        plans = groups.plan(self._spool, self._settings.segment_bytes)
        unpaced = not self._paced or now < self._unpaced_until
        small = any(one.bytes < full for one in plans)
        due = small and (unpaced or self._gathered(now))
        room = self._settings.upload_threads - len([one for one in self._spool.groups() if self._unrefused(one)])
        wanted = [one for one in plans if due or one.bytes >= full]
        for one in wanted[: max(0, room)]:  # waiting segments may still be merged
            groups.fix(self._spool, one.paths, fsync=self._settings.fsync)
        if due and len(wanted) <= room:
            self._small_at, self._gather_until = now, None

    def _gathered(self, now: float) -> bool:
        """Whether small segments are due and every worker has sealed its open one, to be merged with them."""
        if now - self._small_at < self._settings.segment_seconds:
            return False
        if self._gather_until is None and self._spool.open_segments():
            self._spool.request_flush()
            self._flushed = self._spool.flush_requested()
            self._gather_until = now + GATHER_SECONDS
        return self._gather_until is None or now >= self._gather_until

    def _unrefused(self, group: Path) -> bool:
        with self._lock:
            return group.name not in self._refusals

    def _forget(self, there: set[str]) -> None:
        with self._lock:
            self._not_before = {name: at for name, at in self._not_before.items() if name in there}
            self._refusals = {name: times for name, times in self._refusals.items() if name in there}

    def _show(self) -> None:
        backlog = self._spool.backlog()
        self._metrics.gauge("archive_spool_segments", backlog.segments)
        self._metrics.gauge("archive_spool_bytes", backlog.bytes)
        self._metrics.gauge("archive_spool_oldest_seconds", backlog.oldest_seconds)

    # ------------------------------------------------------------------ the uploading threads

    def _ship_claimed(self, group: Path) -> None:
        try:
            with claimed(group) as mine:  # not during an erasure
                if mine:
                    self.ship(group)
        except FileNotFoundError:
            pass  # erased meanwhile
        except Exception as error:
            self._log.warning("group", f"the uploader continues after {error!r}")
            self._later(group.name)

    def ship(self, group: Path) -> None:
        """Ships one claimed group: uploads its tar and its table, then deletes it from the spool."""
        began = self._monotonic()
        contents = groups.read(group)
        if not isinstance(contents, groups.Contents):
            reason = f"{len(contents)} damaged places in {group.name} were quarantined"
            group = groups.set_aside(self._spool, group, contents)
            self._log.warning("damaged", reason)
            self.rejected += len(contents)
            self._metrics.count("archive_rejected_total", {"reason": "Damaged"}, len(contents))
            return  # the next scan finds it under its new name
        if not contents.records:
            remove_folder(group)
            return
        try:
            self._put(group, contents)
        except Refused as error:
            self._refused(group, error.reason, len(contents.records))
            return
        except (Away, NoStore, SettingsError) as error:
            self._away(str(error))
            return
        remove_folder(group)
        with self._lock:
            self.shipped += len(contents.records)
            self._failures = 0
        self._metrics.count("archive_shipped_total", {}, len(contents.records))
        self._metrics.observe("archive_upload_seconds", self._monotonic() - began)

    def _put(self, group: Path, contents: groups.Contents) -> None:
        store = self._connected()
        for kind in KINDS:
            part = contents.of_kind(kind.stored)
            if not part.records:
                continue
            root, name = kind.root(store.destination.prefix), segment_name(group)
            key = segment_key(root, name)
            if not store.put_new(key, part.data):
                store.check_same(key, part.data)
            rows = (kind.row(found, key) for found in part.records)
            store.put_new(table_key(root, name), to_parquet(rows, kind.schema))

    def _connected(self) -> Store:
        with self._lock:
            if self._store is None or (self._failures and self._failures % REOPEN_AFTER == 0):
                self._store = self._open_store()
            return self._store

    def _refused(self, group: Path, reason: str, records: int) -> None:
        with self._lock:
            self._refusals[group.name] = self._refusals.get(group.name, 0) + 1
            final = self._refusals[group.name] >= self._settings.refused_attempts
            self._not_before[group.name] = self._monotonic() + self.pause(self._refusals[group.name])
        self._log.warning(f"refused {reason}", f"S3 rejected segment {group.name}: {reason}")
        if final:
            groups.reject(self._spool, group, reason)
            self.rejected += records
            self._metrics.count("archive_rejected_total", {"reason": reason}, records)

    def _away(self, why: str) -> None:
        with self._lock:
            self._failures += 1
            self._away_until = self._monotonic() + self.pause(self._failures)
        self._log.warning("away", f"the store is unavailable ({why}); segments wait in the spool")

    def _later(self, name: str) -> None:
        with self._lock:
            self._not_before[name] = self._monotonic() + self.pause(3)

    def pause(self, failures: int) -> float:
        """The back-off in seconds after this many consecutive failures."""
        longest = self._settings.backoff_base_seconds * 2 ** min(failures, 30)
        return float(self._jitter() * min(self._cap, longest))
