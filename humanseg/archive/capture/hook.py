"""The archive as the serving worker sees it: start once, hand over every answered photo, hear of no trouble.

    # in the handler's initialize():
    archive = Archive.start(
        ArchiveSettings.from_mapping(model_yaml_config.get("archive")),  # raises SettingsError: stop the load
        state_dir=Path(os.environ["STATE_DIR"]),
        metrics=my_metrics,          # see telemetry.Metrics
    )
    # after post-processing, for each photo answered with 200, before the answer goes out:
    outcome = archive.keep(exchange)                 # see record.Exchange
    set_header("x-archived", outcome.value)          # spooled | declined | sampled-out | dropped

`keep` returns once the record lies in the spool; the shipper brings it to the bucket from there. It
never raises and never waits for the network. What `serve.sh` and the container run besides:

    python -m humanseg.archive.ship.local_store --dir STATE_DIR/store     the embedded store, without ARCHIVE_BUCKET
    humanseg archive ship --drain --deadline SECONDS        on stop: after TorchServe, before the store
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from humanseg.archive.capture.choice import choose
from humanseg.archive.capture.record import Exchange, build_record, checked_label
from humanseg.archive.capture.scrub import scrub
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import Spool, SpoolFullError
from humanseg.archive.capture.telemetry import Metrics, NoMetrics, SparseLog
from humanseg.archive.errors import Unscrubbable
from humanseg.archive.ship.shipper import Shipper
from humanseg.archive.ship.side_process import SideProcess
from humanseg.archive.ship.store import Store

_DISK_REASONS = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EROFS: "disk-read-only",
    errno.EACCES: "disk-read-only",
    errno.EPERM: "disk-read-only",
}


class Outcome(enum.Enum):
    """What became of one photo; the value is what the answer's x-archived header says."""

    SPOOLED = "spooled"
    DECLINED = "declined"
    SAMPLED_OUT = "sampled-out"
    DROPPED = "dropped"


class Archive:
    """One worker's archive. `keep` may be called from any thread."""

    def __init__(self, settings: ArchiveSettings, spool: Spool, metrics: Metrics, log: SparseLog) -> None:
        self.settings, self.spool = settings, spool
        self._metrics, self._log = metrics, log
        self._lock = threading.Lock()
        self._passed_over = {"declined": 0, "sampled_out": 0, "dropped": 0}
        self.shipper: Shipper | SideProcess | None = None

    @classmethod
    def start(
        cls,
        settings: ArchiveSettings,
        state_dir: Path,
        *,
        metrics: Metrics | None = None,
        open_store: Callable[[], Store] | None = None,
        logger: logging.Logger | None = None,
    ) -> Archive:
        """Opens the spool in `state_dir` and starts the shipper, unless the mode is "off" and nothing waits.

        A disk that can't be written is no error here: `keep` then drops and counts. The shipper is a process
        of its own (side_process.py) that goes to the store which the environment names (target.Target.find).
        With `open_store` it is threads in this process instead, and the store is what that returns; it is
        called again and again until it succeeds.
        """
        logger = logger or logging.getLogger("archive")
        log = SparseLog(logger)
        numbers = metrics or NoMetrics()
        spool = open_spool(settings, state_dir)
        archive = cls(settings, spool, numbers, log)
        if settings.mode != "off" or not spool.is_empty():  # what an earlier run acknowledged goes out
            if open_store is None:
                archive.shipper = SideProcess(spool, state_dir, settings, metrics=numbers, log=log)
            else:
                archive.shipper = Shipper(spool, open_store, settings, metrics=numbers, log=log)
            archive.shipper.start()
        return archive

    def keep(self, exchange: Exchange) -> Outcome:
        """Puts the exchange into the spool, if settings, consent and sampling want it there.

        Never raises. The cost is one cleaning of the photo's metadata, one mask as PNG, and one small folder
        written to local disk.
        """
        try:
            choice = choose(self.settings, exchange.request_id, exchange.confidence, exchange.consent)
            if not choice.kept:
                self._pass_over(choice.reason.replace("-", "_"))
                return Outcome(choice.reason)
            self._spool(exchange, choice.reason, choice.probability)
        except SpoolFullError as error:
            return self._drop(error.reason, f"no room in {self.spool.root}")
        except OSError as error:
            return self._drop(_DISK_REASONS.get(error.errno or 0, "disk-error"), str(error))
        except Unscrubbable as error:
            return self._drop("unscrubbable", str(error))
        except Exception as error:  # whatever it is, the answer to the user matters more
            return self._drop("error", repr(error))
        self._metrics_count("archive_spooled_total")
        if self.shipper is not None:
            self.shipper.wake()
        return Outcome.SPOOLED

    def _spool(self, exchange: Exchange, reason: str, probability: float) -> None:
        try:
            checked_label(exchange.label)
        except ValueError as error:
            self._log.warning("label", f"a label was left out: {error}")
            exchange = dataclasses.replace(exchange, label=None)
        photo, photo_format = scrub(bytes(exchange.photo), exchange.photo_format.lower())
        with self._lock:
            passed_over = dict(self._passed_over)
        record = build_record(
            exchange,
            photo,
            photo_format,
            exchange.mask_png(),
            mode=self.settings.mode,
            reason=reason,
            probability=probability,
            passed_over=passed_over,
        )
        self.spool.write(record)
        with self._lock:
            for name, number in passed_over.items():
                self._passed_over[name] -= number

    def _pass_over(self, name: str) -> None:
        with self._lock:
            self._passed_over[name] += 1

    def _drop(self, reason: str, why: str) -> Outcome:
        self._pass_over("dropped")
        self._metrics_count("archive_dropped_total", reason)
        self._log.warning(f"drop {reason}", f"a record was dropped ({reason}): {why}")
        return Outcome.DROPPED

    def _metrics_count(self, name: str, reason: str = "") -> None:
        try:
            self._metrics.count(name, {"reason": reason} if reason else {})
        except Exception as error:
            self._log.warning("metrics", f"{name} could not be counted: {error!r}")


def open_spool(settings: ArchiveSettings, state_dir: Path) -> Spool:
    """The spool of `state_dir` with the bounds of `settings`. Touches no disk."""
    return Spool(
        state_dir / "spool",
        max_records=settings.spool_max_records,
        max_bytes=settings.spool_max_bytes,
        keep_free_bytes=settings.spool_keep_free_bytes,
        fsync=settings.fsync,
    )
