"""The worker's shipper: a thread that minds a process of lower priority, which does the uploading.

Why a process: an upload costs about 10 ms of Python, which in the worker's own interpreter took more than a third of
its throughput at full load. On its own, and nice, it takes what the workers leave, and the spool takes the rest
until the load falls. One process serves all workers of a server: the worker that holds the lock on
`spool/rejected` runs it; when that worker dies, the process sees the end of its input and ends, and the next
worker takes over within COUNT_SECONDS.

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
from dataclasses import asdict
from pathlib import Path

from archive.settings import ArchiveSettings
from archive.shipper import COUNT_SECONDS, Shipper, take_lead
from archive.spool import Spool
from archive.store import Store
from archive.target import Target
from archive.telemetry import Metrics, SparseLog


class SideProcess:
    """Minds the shipping process of one spool. Same verbs as a Shipper in threads: start, wake, stop."""

    def __init__(
        self, spool: Spool, state_dir: Path, settings: ArchiveSettings, *, metrics: Metrics, log: SparseLog
    ) -> None:
        self._spool, self._state_dir, self._settings = spool, state_dir.resolve(), settings
        self._metrics, self._log = metrics, log
        self._stop = threading.Event()
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
                self._spool.recount()
                if lead < 0:
                    lead = take_lead(self._spool, "rejected")
                self._run()
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
        package = Path(__file__).resolve().parent.parent
        path = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "archive.side_process", str(self._state_dir)]
        with subprocess.Popen(
            [*command, json.dumps(asdict(self._settings))],
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
                self._spool.recount()
            if kind == "count":
                self._metrics.count(name, value)
            elif kind == "observe":
                self._metrics.observe(name, value)
            else:
                self._metrics.gauge(name, value)
        except Exception as error:  # half a line of a process that was killed, or metrics that are broken
            self._log.warning("pass on", f"a number of the shipper was lost: {error!r}")


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


def main(state_dir: Path, settings: ArchiveSettings) -> None:
    """The shipping process: ships until its input ends, which is when the worker that started it ends."""
    from archive.hook import open_spool

    with contextlib.suppress(OSError):
        os.nice(settings.nice)
    shipper = Shipper(
        open_spool(settings, state_dir),
        lambda: Store.open(Target.find(os.environ, state_dir), settings),
        settings,
        metrics=_Lines(),
        log=SparseLog(logging.getLogger("archive")),
    )
    shipper.start()
    while os.read(0, 65536):
        shipper.wake()
    os._exit(0)  # at once: locks end with the process, and whatever is under way is done again


if __name__ == "__main__":
    main(Path(sys.argv[1]), ArchiveSettings(**json.loads(sys.argv[2])))
