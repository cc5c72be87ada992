"""A stand-in for a serving worker, as a process that tests can kill: it keeps photos and says which it kept.

    python tests/archive/worker.py STATE_DIR SECONDS PAUSE [SETTING=VALUE...]

One line "REQUEST_ID SHA256 OUTCOME SECONDS" on stdout for each photo, written after `keep` came back, as the
answer to a user would be. ARCHIVE_* and AWS_* say where the store is.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import yaml

from humanseg.archive.capture.hook import Archive
from humanseg.archive.capture.settings import ArchiveSettings
from tests.archive.helpers import FAST, clean_photo, digest, exchange


def main(state_dir: str, seconds: str, pause: str, *settings: str) -> None:
    values = {name: yaml.safe_load(value) for name, value in (setting.split("=") for setting in settings)}
    archive = Archive.start(ArchiveSettings(**{**FAST, "segment_seconds": 1.0, **values}), Path(state_dir))
    stock = [clean_photo(number) for number in range(20)]
    until, number = time.monotonic() + float(seconds), os.getpid()
    while time.monotonic() < until:
        number += 1
        given = exchange(photo=stock[number % 20], time=datetime.now(timezone.utc))
        began = time.monotonic()
        outcome = archive.keep(given)
        took = time.monotonic() - began
        print(given.request_id, digest(given.photo), outcome.value, f"{took:.4f}", flush=True)
        time.sleep(float(pause))


if __name__ == "__main__":
    main(*sys.argv[1:])
