"""The uploader as a command: drains a server that stops, or the spool of a server that is gone."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from humanseg.archive.capture.hook import open_spool
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.telemetry import Metrics, NoMetrics, RateLimitedLog
from humanseg.archive.errors import ArchiveError
from humanseg.archive.ship import groups
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.store import BucketSettings, Store
from humanseg.archive.ship.uploader import Drained, Uploader
from humanseg.common import names
from humanseg.common.settings import SettingsError


def read_settings(config: Path) -> ArchiveSettings:
    """Read the `archive:` section of a model-config.yaml; the defaults if the file does not exist.

    Raises:
        SettingsError: the file is not a YAML mapping, or a key is invalid.
    """
    import yaml

    try:
        found: Any = yaml.safe_load(config.read_text()) or {}
    except FileNotFoundError:
        return ArchiveSettings()
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{config} can't be read: {error}") from error
    if not isinstance(found, dict):
        raise SettingsError(f"{config} has no keys; it must be a model-config.yaml")
    return ArchiveSettings.from_mapping(found.get("archive"))


def uploader_for(state_dir: Path, settings: ArchiveSettings, *, metrics: Metrics, log: RateLimitedLog) -> Uploader:
    """The uploader of this state folder, for the store that the environment configures."""
    return Uploader(
        open_spool(state_dir),
        lambda: Store.open(Destination.find(os.environ, state_dir), BucketSettings.of(settings)),
        settings,
        metrics=metrics,
        log=log,
    )


def ship_spool(
    state_dir: Path,
    config: Path,
    *,
    deadline_seconds: float | None,
    retry_rejected: bool = False,
    stop_signals: Sequence[signal.Signals] = (),
) -> Drained:
    """Ships the spool until it is empty or the deadline has passed; without a deadline, until a signal.

    Beside a running server the open segments are sealed at once, and this process ships if the server's own uploader
    does not.
    """
    spool = open_spool(state_dir)
    if retry_rejected:
        groups.restore_rejected(spool)
    log = RateLimitedLog(logging.getLogger("archive"))
    uploader = uploader_for(state_dir, read_settings(config), metrics=NoMetrics(), log=log)
    if deadline_seconds is not None:
        return uploader.drain(deadline_seconds)
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for number in stop_signals:
        signal.signal(number, stop)
    uploader.start()
    stopping.wait()
    uploader.stop()
    return Drained(uploader.shipped, uploader.rejected, spool.backlog())


def main() -> int:
    """Drain for a server that stops, given CONFIG and SECONDS. Exit status 3 if segments are left."""
    try:
        result = ship_spool(names.state_dir(), Path(sys.argv[1]), deadline_seconds=float(sys.argv[2]))
    except (ArchiveError, SettingsError) as error:
        print(f"archive: {error}", file=sys.stderr)
        return 3
    print(f"archive: shipped {result.shipped} records", flush=True)
    return 3 if result.left.segments else 0


if __name__ == "__main__":
    sys.exit(main())
