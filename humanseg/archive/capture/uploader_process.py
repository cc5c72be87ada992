"""The worker's side of the uploader: a thread that minds the process that ships (humanseg.archive.ship.child).

Why a process: uploading in the worker's own interpreter would take from its throughput, and pyarrow and boto3 need
not be in its memory. One process serves all workers of a server: the worker that holds the lock on `spool/open` runs
it; when that worker dies, the process sees the end of its input and ends, and the next worker takes over within
LEAD_SECONDS. A line from the process is one metric as JSON.
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

MODULE = "humanseg.archive.ship.child"  # by name: a worker must not import what ships
LEAD_SECONDS = 5.0
RESTART_SECONDS = 1.0


class UploaderProcess:
    """Minds the uploader of one spool."""

    def __init__(
        self, spool: Spool, state_dir: Path, settings: ArchiveSettings, *, metrics: Metrics, log: RateLimitedLog
    ) -> None:
        self._spool, self._state_dir, self._settings = spool, state_dir.resolve(), settings
        self._metrics, self._log = metrics, log
        self._stop = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._mind, name="archive-mind", daemon=True)

    def start(self) -> None:
        """Starts the minding thread; the process follows when this worker gets the lead."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Ends the process and the thread. What was being uploaded is finished by the next uploader."""
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
                    self._log.warning("uploader", "the uploader ended; a new one is started")
            except OSError:
                pass  # another worker has the lead, or the disk can't be written now
            except Exception as error:
                self._log.warning("mind", f"the uploader is started again after {error!r}")
            self._stop.wait(LEAD_SECONDS if lead < 0 else RESTART_SECONDS)
        if lead >= 0:
            os.close(lead)

    def _run(self) -> None:
        """Runs one process and passes its numbers on until it ends."""
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
        except Exception as error:  # half a line of a process that was killed, or metrics that are broken
            self._log.warning("pass on", f"a number of the uploader was lost: {error!r}")


def take_lead(folder: Path) -> int:
    """A descriptor that locks `folder` for this process; raises OSError when another has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.ExitStack() as failed:
        failed.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        failed.pop_all()
    return descriptor
