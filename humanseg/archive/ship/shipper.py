"""From the spool to the bucket: claim a record, put photo, mask and record.json, delete it; wait well.

Any number of shippers, in threads and processes, may work on one spool: a claim is a lock on the record
that dies with its holder (spool.py), and the next shipper goes on where a killed one stopped.
`record.json` is put last and marks the record as complete, so a reader never takes half a record for a
whole one.

A store that is away is asked again for ever, with "full jitter": a pause uniform in
0..min(cap, base * 2**failures) (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog,
2015). A record that is refused `refused_attempts` times moves to rejected/, and one whose files don't
match its record.json (a power cut with fsync off) does so at once. One bad record never holds up the
others.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import heapq
import json
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from humanseg.archive.capture.record import RECORD, record_folder
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import Backlog, Entry, Spool
from humanseg.archive.capture.telemetry import Metrics, SparseLog
from humanseg.archive.errors import Away, NoStore, Refused, SettingsError
from humanseg.archive.ship.store import Store

IDLE_SECONDS = 1.0  # between two looks into an empty spool; `wake` cuts it short
COUNT_SECONDS = 5.0  # between two counts of the spool, for its bounds and its gauges
QUEUE = 500  # records that a listing puts in line: bounds the memory that a long backlog takes
DRAIN_CAP_SECONDS = 1.0  # a drain has a deadline, so it asks a store that is away more often
REOPEN_AFTER = 4  # failures in a row until address and keys are looked up again


@dataclass(frozen=True)
class Drained:
    """What a drain did: records shipped and rejected by it, and what is left in the spool."""

    shipped: int
    rejected: int
    left: Backlog


class Shipper:
    """Threads that ship one spool. They are daemons and hold nothing that a SIGKILL could spoil."""

    def __init__(
        self,
        spool: Spool,
        open_store: Callable[[], Store],
        settings: ArchiveSettings,
        *,
        metrics: Metrics,
        log: SparseLog,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._spool, self._open_store, self._settings = spool, open_store, settings
        self._metrics, self._log, self._monotonic, self._jitter = metrics, log, monotonic, jitter
        self._lock = threading.Lock()
        self._stop, self._news = threading.Event(), threading.Event()
        self._store: Store | None = None
        self._queue: deque[Entry] = deque()
        self._not_before: dict[str, float] = {}
        self._refusals: dict[str, int] = {}
        self._failures = 0
        self._cap = settings.backoff_cap_seconds
        self._threads: list[threading.Thread] = []
        self.shipped = self.rejected = 0

    def start(self, threads: int | None = None) -> None:
        """Starts the uploading threads (by default `upload_threads`) and the one that counts and sweeps."""
        for number in range(threads or self._settings.upload_threads):
            self._spawn(self._work, f"archive-ship-{number}")
        self._spawn(self._keep_house, "archive-house")

    def _spawn(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def wake(self) -> None:
        """Says that a record has come. Costs nothing; does not shorten a backoff."""
        self._news.set()

    def stop(self, seconds: float = 5.0) -> None:
        """Asks the threads to end and waits for them; an upload under way is given `seconds`."""
        self._stop.set()
        self._news.set()
        for thread in self._threads:
            thread.join(seconds)

    def drain(self, deadline_seconds: float, threads: int | None = None) -> Drained:
        """Ships until the spool is empty or the deadline is over, then stops. Call it instead of `start`."""
        until = self._monotonic() + deadline_seconds
        self._cap = min(self._cap, DRAIN_CAP_SECONDS)
        self.start(threads)
        while self._monotonic() < until and not self._spool.is_empty():
            time.sleep(0.05)
        self.stop(max(0.1, min(5.0, until - self._monotonic())))
        return Drained(self.shipped, self.rejected, self._spool.backlog())

    # ------------------------------------------------------------------ the threads

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                entry = self._candidate()
                if entry is None:
                    self._news.wait(IDLE_SECONDS)
                    self._news.clear()
                    continue
                with self._spool.claim(entry) as mine:
                    pause = self._ship(entry) if mine else 0.0
            except Exception as error:  # a shipper that dies loses nothing, but nobody would start it again
                self._log.warning("shipper", f"the shipper goes on after {error!r}")
                pause = IDLE_SECONDS
            if pause:
                self._stop.wait(pause)

    def _candidate(self) -> Entry | None:
        with self._lock:
            if not self._queue:
                names = self._spool.names("ready")
                self._forget(names)
                now = self._monotonic()
                due = (name for name in names if self._not_before.get(name, now) <= now)
                entries = map(self._spool.entry, heapq.nsmallest(QUEUE, due))
                self._queue.extend(entry for entry in entries if entry)
            return self._queue.popleft() if self._queue else None

    def _forget(self, names: list[str]) -> None:
        """Drops what is remembered of records that are gone."""
        if self._not_before or self._refusals:
            there = set(names)
            self._not_before = {name: at for name, at in self._not_before.items() if name in there}
            self._refusals = {name: times for name, times in self._refusals.items() if name in there}

    def _ship(self, entry: Entry) -> float:
        """Ships one claimed record; returns how long to pause before the next one, in seconds."""
        began = self._monotonic()
        try:
            self._upload(entry)
        except FileNotFoundError:
            return 0.0  # erased by somebody in the meantime
        except Refused as error:
            return self._refused(entry, error.reason)
        except (Away, NoStore, SettingsError) as error:
            return self._away(entry, str(error))
        self._spool.remove(entry)
        with self._lock:
            self.shipped += 1
            self._failures = 0
        self._metrics.count("archive_shipped_total", {})
        self._metrics.observe("archive_upload_seconds", self._monotonic() - began)
        return 0.0

    def _upload(self, entry: Entry) -> None:
        files = entry.read()
        about = _checked(files)
        store = self._connected()
        folder = record_folder(store.target.prefix, about)
        for name, data in files:
            if not store.put_new(f"{folder}/{name}", data) and name == RECORD:
                store.check_same(f"{folder}/{name}", data)

    def _connected(self) -> Store:
        with self._lock:
            if self._store is None or (self._failures and self._failures % REOPEN_AFTER == 0):
                self._store = self._open_store()
            return self._store

    def _refused(self, entry: Entry, reason: str) -> float:
        name = _name(entry)
        with self._lock:
            self._refusals[name] = self._refusals.get(name, 0) + 1
            final = reason == "Damaged" or self._refusals[name] >= self._settings.refused_attempts
            pause = self._pause(self._refusals[name])
            self._not_before[name] = self._monotonic() + pause
        self._log.warning(f"refused {reason}", f"record {entry.request_id} is refused: {reason}")
        if final:
            self._spool.reject(entry, reason)
            with self._lock:
                self.rejected += 1
            self._metrics.count("archive_rejected_total", {"reason": reason})
        return 0.0

    def _away(self, entry: Entry, why: str) -> float:
        with self._lock:
            self._failures += 1
            pause = self._pause(self._failures)
            self._not_before[_name(entry)] = self._monotonic() + pause
        self._log.warning("away", f"the store can't take records now ({why}); they wait in the spool")
        return pause

    def _pause(self, failures: int) -> float:
        longest = self._settings.backoff_base_seconds * 2 ** min(failures, 30)
        return float(self._jitter() * min(self._cap, longest))

    def _keep_house(self) -> None:
        """Counts for the spool's bounds, and in one process of all that share it, sweeps and sets the gauges."""
        lead, swept = -1, float("-inf")
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                backlog = self._spool.recount()
                if lead < 0:
                    lead = take_lead(self._spool, "ready")
                if self._monotonic() - swept > 60:
                    self._spool.sweep()
                    swept = self._monotonic()
                self._metrics.gauge("archive_spool_records", backlog.records)
                self._metrics.gauge("archive_spool_bytes", backlog.bytes)
                self._metrics.gauge("archive_spool_oldest_seconds", backlog.oldest_seconds)
            self._stop.wait(COUNT_SECONDS)
        if lead >= 0:
            os.close(lead)


def _name(entry: Entry) -> str:
    return f"ready/{entry.path.name}"


def take_lead(spool: Spool, folder: str) -> int:
    """A descriptor that locks `folder` of the spool for this process; raises OSError when another has it."""
    spool.make_folders()
    descriptor = os.open(spool.root / folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _checked(files: list[tuple[str, bytes]]) -> dict[str, Any]:
    """The parsed record.json, after every other file was found in it with the right SHA-256.

    Raises:
        Refused: "Damaged", when it isn't so.
    """
    try:
        about: dict[str, Any] = json.loads(dict(files)[RECORD])
        listed = {part["file"]: part["sha256"] for part in (about["photo"], about["mask"])}
    except (KeyError, TypeError, ValueError) as error:
        raise Refused("Damaged") from error
    found = {name: hashlib.sha256(data).hexdigest() for name, data in files if name != RECORD}
    if listed != found:
        raise Refused("Damaged")
    return about
