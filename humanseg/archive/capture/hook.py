"""The worker's interface to the archive: start it once, pass every answered photo, get no exceptions.

    # in the handler's initialize():
    archive = Archive.start(
        ArchiveSettings.from_mapping(model_yaml_config.get("archive")),  # raises SettingsError: stop the load
        state_dir=Path(os.environ["STATE_DIR"]),
        metrics=my_metrics,          # see telemetry.Metrics
    )
    # after post-processing, for each photo answered with 200, before the response is sent:
    outcome = archive.keep(exchange)                 # see record.Exchange
    set_header("x-archived", outcome.value)          # spooled | declined | sampled-out | dropped

`keep` returns when the record is in the spool, from where the uploader ships it. It never raises and never waits for
the network. `serve.sh` and the container also run:

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

from humanseg.archive.capture.bounds import Bounds, SpoolFullError
from humanseg.archive.capture.correction import Correction, build_correction
from humanseg.archive.capture.record import Exchange, Record, build_record, checked_label
from humanseg.archive.capture.sampling import allowed, decide
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import Spool
from humanseg.archive.capture.strip_metadata import strip_metadata
from humanseg.archive.capture.telemetry import Metrics, NoMetrics, RateLimitedLog
from humanseg.archive.capture.uploader_process import UploaderProcess
from humanseg.archive.capture.writer import SegmentWriter
from humanseg.archive.errors import NotStrippable

SEAL_SHARE = 0.75  # of `segment_seconds`: the rest is for the upload
TICK_SECONDS = 0.5  # how late a segment may be sealed
RECOUNT_TICKS = 10  # ticks between two counts of the spool

_DISK_REASONS = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EROFS: "disk-read-only",
    errno.EACCES: "disk-read-only",
    errno.EPERM: "disk-read-only",
}


class Outcome(enum.Enum):
    """The outcome for one photo; the value of the response header x-archived."""

    SPOOLED = "spooled"
    DECLINED = "declined"
    SAMPLED_OUT = "sampled-out"
    DROPPED = "dropped"


class Archive:
    """One worker's archive. `keep` may be called from any thread."""

    def __init__(self, settings: ArchiveSettings, spool: Spool, metrics: Metrics, log: RateLimitedLog) -> None:
        self.settings, self.spool = settings, spool
        self._metrics, self._log = metrics, log
        self._writer = SegmentWriter(
            spool.root,
            segment_bytes=settings.segment_bytes,
            segment_seconds=settings.segment_seconds * SEAL_SHARE,
            fsync=settings.fsync,
        )
        self._bounds = Bounds(
            spool, max_bytes=settings.spool_max_bytes, keep_free_bytes=settings.spool_keep_free_bytes
        )
        self._lock = threading.Lock()
        self._passed_over = {"declined": 0, "sampled_out": 0, "dropped": 0}
        self._stop = threading.Event()
        self._asked = spool.flush_requested()
        self._sealing = threading.Thread(target=self._seal_in_time, name="archive-seal", daemon=True)
        self._uploader: UploaderProcess | None = None

    @classmethod
    def start(
        cls,
        settings: ArchiveSettings,
        state_dir: Path,
        *,
        metrics: Metrics | None = None,
        logger: logging.Logger | None = None,
        upload: bool = True,
    ) -> Archive:
        """Opens the spool in `state_dir`; starts the uploader, unless the mode is "off" and the spool is empty.

        An unwritable disk is not an error here: `keep` then drops and counts records. The uploader is a separate
        process (uploader_process.py), which uploads to the store that the environment names. Without `upload` the
        archive only spools, and another process must ship.
        """
        log = RateLimitedLog(logger or logging.getLogger("archive"))
        numbers = metrics or NoMetrics()
        spool = open_spool(state_dir)
        archive = cls(settings, spool, numbers, log)
        if settings.mode != "off":
            archive._sealing.start()
        if upload and (settings.mode != "off" or not spool.is_empty()):  # ship what an earlier run acknowledged
            archive._uploader = UploaderProcess(spool, state_dir, settings, metrics=numbers, log=log)
            archive._uploader.start()
        return archive

    def keep(self, exchange: Exchange) -> Outcome:
        """Spools the exchange if settings, consent and sampling allow it.

        Never raises. The cost: stripping the photo's metadata, encoding the mask as PNG, two SHA-256, and one append
        to a file on local disk.
        """
        try:
            decision = decide(self.settings, exchange.request_id, exchange.confidence, exchange.consent)
        except Exception as error:
            return self._drop("error", repr(error))
        if not decision.kept:
            self._pass_over(decision.reason.replace("-", "_"))
            return Outcome(decision.reason)
        return self._dropping(lambda: self._spool(exchange, decision.reason, decision.probability))

    def keep_correction(self, correction: Correction) -> Outcome:
        """Puts a corrected mask into the spool, as long as the archive is on. Never raises.

        Sampling does not apply, and the consent to it was given with it: the handler takes none without.
        """
        if self.settings.mode == "off":
            return Outcome.DECLINED
        return self._dropping(lambda: self._append(build_correction(correction)), photo=False)

    def wants_frames(self, consent: bool | None) -> bool:
        """Whether frames of a clip are to be kept, by the settings and what its request said (None: nothing)."""
        return self.settings.video == "sampled" and allowed(self.settings, consent)

    def close(self) -> None:
        """Seals the open segment and stops the threads and the uploader. A crash has the same effect."""
        self._stop.set()
        if self._sealing.is_alive():
            self._sealing.join()
        self._writer.seal()
        if self._uploader is not None:
            self._uploader.stop()

    def _dropping(self, spool: Callable[[], None], *, photo: bool = True) -> Outcome:
        """What became of a record that `spool` puts into the spool, or fails to. photo: it counts as one."""
        try:
            spool()
        except SpoolFullError as error:
            return self._drop(error.reason, f"no space in {self.spool.root}", photo=photo)
        except OSError as error:
            return self._drop(_DISK_REASONS.get(error.errno or 0, "disk-error"), str(error), photo=photo)
        except NotStrippable as error:
            return self._drop("not-strippable", str(error), photo=photo)
        except Exception as error:  # no error may affect the response
            return self._drop("error", repr(error), photo=photo)
        self._metrics_count("archive_spooled_total")
        return Outcome.SPOOLED

    def _spool(self, exchange: Exchange, reason: str, probability: float) -> None:
        try:
            checked_label(exchange.label)
        except ValueError as error:
            self._log.warning("label", f"a label was left out: {error}")
            exchange = dataclasses.replace(exchange, label=None)
        photo, photo_format = strip_metadata(
            bytes(exchange.photo), exchange.photo_format.lower(), exchange.orientation
        )
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
        self._append(record)
        with self._lock:
            for name, number in passed_over.items():
                self._passed_over[name] -= number

    def _append(self, record: Record) -> None:
        self._bounds.take(record.size)
        try:
            self._writer.append(record)
        except BaseException:
            self._bounds.give_back(record.size)
            raise

    def _seal_in_time(self) -> None:
        """Seals segments even without requests, and on a flush; recounts the spool regularly."""
        ticks = 0
        while not self._stop.wait(TICK_SECONDS):
            ticks += 1
            try:
                self._writer.seal_if_due()
                if (asked := self.spool.flush_requested()) != self._asked:
                    self._asked = asked
                    self._writer.seal()
                if ticks % RECOUNT_TICKS == 0:
                    self._bounds.recount()
            except Exception as error:
                self._log.warning("seal", f"a segment could not be sealed now: {error!r}")

    def _pass_over(self, name: str) -> None:
        with self._lock:
            self._passed_over[name] += 1

    def _drop(self, reason: str, why: str, *, photo: bool = True) -> Outcome:
        if photo:
            self._pass_over("dropped")
        self._metrics_count("archive_dropped_total", reason)
        self._log.warning(f"drop {reason}", f"a record was dropped ({reason}): {why}")
        return Outcome.DROPPED

    def _metrics_count(self, name: str, reason: str = "") -> None:
        try:
            self._metrics.count(name, {"reason": reason} if reason else {})
        except Exception as error:
            self._log.warning("metrics", f"{name} could not be counted: {error!r}")


def open_spool(state_dir: Path) -> Spool:
    """The spool of `state_dir`. Touches no disk."""
    return Spool(state_dir / "spool")
