"""The shipper as a command: for draining a server that stops, and for a spool whose server is gone."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from humanseg.archive.capture.hook import open_spool
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.telemetry import NoMetrics, SparseLog
from humanseg.archive.errors import SettingsError
from humanseg.archive.ship.shipper import Drained, Shipper
from humanseg.archive.ship.store import Store
from humanseg.archive.ship.target import Target


def read_settings(config: Path) -> ArchiveSettings:
    """The `archive:` section of a model-config.yaml; the defaults when the file is not there.

    Raises:
        SettingsError: the file is no YAML mapping, or a key is wrong.
    """
    import yaml

    try:
        found: Any = yaml.safe_load(config.read_text()) or {}
    except FileNotFoundError:
        return ArchiveSettings()
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{config} can't be read: {error}") from error
    if not isinstance(found, dict):
        raise SettingsError(f"{config} holds no keys; it must be a model-config.yaml")
    return ArchiveSettings.from_mapping(found.get("archive"))


def ship_spool(
    state_dir: Path,
    config: Path,
    *,
    deadline_seconds: float | None,
    threads: int = 4,
    retry_rejected: bool = False,
    stop_signals: Sequence[signal.Signals] = (),
) -> Drained:
    """Ships the spool until it is empty or the deadline is over; without a deadline, until a signal."""
    settings = read_settings(config)
    spool = open_spool(settings, state_dir)
    if retry_rejected:
        for entry in spool.rejected():
            with spool.claim(entry) as mine:
                if mine:
                    spool.restore(entry)
    shipper = Shipper(
        spool,
        lambda: Store.open(Target.find(os.environ, state_dir), settings),
        settings,
        metrics=NoMetrics(),
        log=SparseLog(logging.getLogger("archive")),
    )
    if deadline_seconds is not None:
        return shipper.drain(deadline_seconds, threads)
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for number in stop_signals:
        signal.signal(number, stop)
    shipper.start(threads)
    stopping.wait()
    shipper.stop()
    return Drained(shipper.shipped, shipper.rejected, spool.backlog())
