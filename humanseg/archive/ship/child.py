"""The uploader as a child process of a worker, supervised by humanseg.archive.capture.uploader_process."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.telemetry import RateLimitedLog
from humanseg.archive.ship.command import uploader_for


class Lines:
    """Metrics as lines on stdout."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def _say(self, *what: object) -> None:
        with self._lock:
            os.write(1, (json.dumps(what) + "\n").encode())

    def count(self, name: str, labels: Mapping[str, str], amount: int = 1) -> None:
        """Write a counter's step."""
        self._say("count", name, dict(labels), amount)

    def gauge(self, name: str, value: float) -> None:
        """Write a gauge."""
        self._say("gauge", name, value)

    def observe(self, name: str, value: float) -> None:
        """Write an observation of a histogram."""
        self._say("observe", name, value)


def main(state_dir: Path, settings: ArchiveSettings) -> None:
    """Run the uploader until EOF on standard input, which means that the worker has ended."""
    uploader_for(state_dir, settings, metrics=Lines(), log=RateLimitedLog(logging.getLogger("archive"))).start()
    while os.read(0, 65536):
        pass
    os._exit(0)  # immediately: locks end with the process, and uploads in progress are repeated


if __name__ == "__main__":
    main(Path(sys.argv[1]), ArchiveSettings(**json.loads(sys.argv[2])))
