"""The worker's shipper: a thread that minds a process that gives way to the workers, which does the uploading.

Why a process: an upload costs about 10 ms of Python, which in the worker's own interpreter took more than a third of
its throughput at full load. On its own, it runs when nobody else wants the CPU (SCHED_IDLE, sched(7)), and the spool
takes the rest until the load falls, or until the spool is half full: then records come before throughput, and
the process is replaced by one of ordinary priority. One process serves all workers of a server: the worker that
holds the lock on `spool/rejected` runs it; when that worker dies, the process sees the end of its input and ends,
and the next worker takes over within COUNT_SECONDS.

Between the two, on pipes: a line to the process wakes it; a line from it is one metric as JSON.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from humanseg.archive.capture.priority import give_way
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import Backlog, Spool
from humanseg.archive.capture.telemetry import Metrics, SparseLog
from humanseg.archive.ship.shipper import COUNT_SECONDS, Shipper, take_lead
from humanseg.archive.ship.store import Store
from humanseg.archive.ship.target import Target

# Shares of the spool's bounds: above the first, shipping no longer gives way; below the second, it does again.
PRESSING, RELIEVED = 0.5, 0.25


class SideProcess:
    """Minds the shipping process of one spool. Same verbs as a Shipper in threads: start, wake, stop."""

    def __init__(
        self, spool: Spool, state_dir: Path, settings: ArchiveSettings, *, metrics: Metrics, log: SparseLog
    ) -> None:
        self._spool, self._state_dir, self._settings = spool, state_dir.resolve(), settings
        self._metrics, self._log = metrics, log
        self._stop = threading.Event()
        self._pressing = False
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._mind, name="archive-mind", daemon=True)

    def start(self) -> None:
        """Starts the minding thread; the process follows when this worker gets the lead."""
        self._thread.start()

    def wake(self) -> None:
        """Says that a record has come; nothing happens in a worker that does not have the lead."""
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                os.write(process.stdin.fileno(), b"\n")

    def stop(self, seconds: float = 5.0) -> None:
        """Ends the process and the thread. What was being uploaded is finished by the next shipper."""
        self._stop.set()
        process = self._process
        if process is not None:
            process.kill()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _mind(self) -> None:
        lead = -1
        while not self._stop.is_set():
            try:
                backlog = self._spool.recount()
                if lead < 0:
                    lead = take_lead(self._spool, "rejected")
                self._weigh(backlog)
                pressing = self._pressing
                self._run()
                if pressing == self._pressing and not self._stop.is_set():
                    self._log.warning("side process", "the shipping process ended; a new one is started")
            except OSError:
                pass  # another worker has the lead, or the disk can't be written now
            except Exception as error:
                self._log.warning("mind", f"the shipper goes on after {error!r}")
            self._stop.wait(COUNT_SECONDS if lead < 0 else 1.0)
        if lead >= 0:
            os.close(lead)

    def _run(self) -> None:
        """Runs one process and passes its numbers on until it ends."""
        package = Path(__file__).resolve().parents[3]
        path = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "humanseg.archive.ship.side_process", str(self._state_dir)]
        settings = replace(self._settings, give_way=self._settings.give_way and not self._pressing)
        with subprocess.Popen(
            [*command, json.dumps(asdict(settings))],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            self._process = process
            if self._stop.is_set():
                process.kill()
            assert process.stdin
            os.set_blocking(process.stdin.fileno(), False)  # a wake that finds the pipe full is not needed
            assert process.stdout
            for line in process.stdout:
                self._pass_on(line)
        self._process = None

    def _pass_on(self, line: str) -> None:
        try:
            kind, name, value = json.loads(line)
            if name == "archive_spool_records":
                self._weigh(self._spool.recount())
            if kind == "count":
                self._metrics.count(name, value)
            elif kind == "observe":
                self._metrics.observe(name, value)
            else:
                self._metrics.gauge(name, value)
        except Exception as error:  # half a line of a process that was killed, or metrics that are broken
            self._log.warning("pass on", f"a number of the shipper was lost: {error!r}")

    def _weigh(self, backlog: Backlog) -> None:
        """Ends the process when the spool got so full, or so empty again, that its priority must change."""
        spool = self._spool
        full = max(backlog.records / spool.max_records, backlog.bytes / spool.max_bytes)
        pressing = full > (RELIEVED if self._pressing else PRESSING)
        if pressing != self._pressing and self._settings.give_way:
            self._pressing = pressing
            gives = "no longer gives" if pressing else "gives"
            self._log.warning(gives, f"the spool is {full:.0%} full: shipping {gives} way to answering")
            if self._process is not None:
                self._process.kill()


class _Lines:
    """Metrics as lines on stdout."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def _say(self, *what: object) -> None:
        with self._lock:
            os.write(1, (json.dumps(what) + "\n").encode())

    def count(self, name: str, labels: Mapping[str, str]) -> None:
        self._say("count", name, dict(labels))

    def gauge(self, name: str, value: float) -> None:
        self._say("gauge", name, value)

    def observe(self, name: str, value: float) -> None:
        self._say("observe", name, value)


def uploads(settings: ArchiveSettings, environ: Mapping[str, str]) -> int:
    """How many uploads at a time: one while it gives way to workers that share their cores with the embedded store.

    A store elsewhere is waited for, not worked for, so several at a time cost the workers nothing.
    """
    embedded = not environ.get("ARCHIVE_BUCKET")
    return 1 if settings.give_way and embedded else settings.upload_threads


def main(state_dir: Path, settings: ArchiveSettings) -> None:
    """The shipping process: ships until its input ends, which is when the worker that started it ends."""
    from humanseg.archive.capture.hook import open_spool

    if settings.give_way:
        give_way()
    shipper = Shipper(
        open_spool(settings, state_dir),
        lambda: Store.open(Target.find(os.environ, state_dir), settings),
        settings,
        metrics=_Lines(),
        log=SparseLog(logging.getLogger("archive")),
    )
    shipper.start(uploads(settings, os.environ))
    while os.read(0, 65536):
        shipper.wake()
    os._exit(0)  # at once: locks end with the process, and whatever is under way is done again


if __name__ == "__main__":
    main(Path(sys.argv[1]), ArchiveSettings(**json.loads(sys.argv[2])))
