"""The worker's side of the uploader: a thread that supervises the uploader process (humanseg.archive.ship.child).

A separate process keeps the worker's throughput, and keeps pyarrow and boto3 out of its memory. One process serves
all workers of a server: the worker that holds the lock on `spool/open` runs it. When that worker dies, the process
reads EOF from its standard input and exits, and the next worker takes over within LEAD_SECONDS. Each line from the
process is one metric as JSON.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import OPEN, Spool
from humanseg.archive.capture.telemetry import Metrics, RateLimitedLog

MODULE = "humanseg.archive.ship.child"  # by name: a worker must not import the uploader
LEAD_SECONDS = 5.0
RESTART_SECONDS = 1.0


class UploaderProcess:
    """Supervises the uploader of one spool."""

    def __init__(
        self, spool: Spool, state_dir: Path, settings: ArchiveSettings, *, metrics: Metrics, log: RateLimitedLog
    ) -> None:
        self._spool, self._state_dir, self._settings = spool, state_dir.resolve(), settings
        self._metrics, self._log = metrics, log
        self._stop = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._mind, name="archive-mind", daemon=True)

    def start(self) -> None:
        """Starts the supervising thread; the process starts when this worker becomes the leader."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Stops the process and the thread. The next uploader completes unfinished uploads."""
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
                if lead < 0:
                    self._spool.make_folders()
                    lead = take_lead(self._spool.root / OPEN)
                self._run()
                if not self._stop.is_set():
                    self._log.warning("uploader", "the uploader ended; restarting it")
            except OSError:
                pass  # another worker is the leader, or the disk is not writable
            except Exception as error:
                self._log.warning("mind", f"restarting the uploader after {error!r}")
            self._stop.wait(LEAD_SECONDS if lead < 0 else RESTART_SECONDS)
        if lead >= 0:
            os.close(lead)

    def _run(self) -> None:
        """Runs one process and forwards its metrics until it ends."""
        root = Path(__file__).resolve().parents[3]
        path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", MODULE, str(self._state_dir), json.dumps(asdict(self._settings))]
        with subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            self._process = process
            if self._stop.is_set():
                process.kill()
            assert process.stdout
            for line in process.stdout:
                self._pass_on(line)
        self._process = None

    def _pass_on(self, line: str) -> None:
        try:
            kind, name, value, *more = json.loads(line)
            if kind == "count":
                self._metrics.count(name, value, *more)
            elif kind == "observe":
                self._metrics.observe(name, value)
            else:
                self._metrics.gauge(name, value)
        except Exception as error:  # a truncated line of a killed process, or a broken metrics backend
            self._log.warning("pass on", f"a metric of the uploader was lost: {error!r}")


def take_lead(folder: Path) -> int:
    """Return a descriptor that locks `folder` for this process; raises OSError if another process has the lock."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.ExitStack() as failed:
        failed.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        failed.pop_all()
    return descriptor
