"""What the handler sees of the archive: an outcome for every photo, numbers, and never an exception."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from humanseg.archive.capture.hook import Archive, Outcome
from humanseg.archive.capture.record import StoredRecord
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import records_of
from tests.archive import photos
from tests.archive.helpers import FAST, SCHEMA, Bucket, Numbers, digest, exchange
from tests.archive.shipping import wait_for


def archive_at(state_dir: Path, numbers: Numbers | None = None, **settings: Any) -> Archive:
    return Archive.start(ArchiveSettings(**{**FAST, **settings}), state_dir, metrics=numbers, upload=False)


def spooled_records(archive: Archive) -> list[StoredRecord]:
    return [record for path in archive.spool.files() for record in records_of(path)]


def test_a_kept_photo_lies_in_the_spool_when_keep_returns(tmp_path: Path) -> None:
    numbers = Numbers()
    archive = archive_at(tmp_path, numbers)
    given = exchange()
    assert archive.keep(given) is Outcome.SPOOLED
    (record,) = spooled_records(archive)
    jsonschema.validate(json.loads(record.to_json()), SCHEMA)
    assert record.request_id == given.request_id
    assert numbers.counts["archive_spooled_total"] == 1


def test_what_is_not_kept_costs_no_mask_and_is_told_by_the_next_record(tmp_path: Path) -> None:
    archive = archive_at(tmp_path, sample=0.0, low_confidence=0.5)

    def costly() -> bytes:
        raise AssertionError("the mask of a photo that is not kept was encoded")

    assert archive.keep(exchange(consent=False, mask_png=costly)) is Outcome.DECLINED
    assert archive.keep(exchange(mask_png=costly)) is Outcome.SAMPLED_OUT
    assert archive.keep(exchange(mask_png=costly)) is Outcome.SAMPLED_OUT
    assert archive.keep(exchange(confidence=0.2)) is Outcome.SPOOLED
    assert archive.keep(exchange(confidence=0.2)) is Outcome.SPOOLED
    first, second = spooled_records(archive)
    assert (first.passed_over_declined, first.passed_over_sampled_out, first.passed_over_dropped) == (1, 2, 0)
    assert (second.passed_over_declined, second.passed_over_sampled_out, second.passed_over_dropped) == (0, 0, 0)


def test_with_mode_off_nothing_touches_the_disk(tmp_path: Path) -> None:
    archive = archive_at(tmp_path, mode="off")
    assert archive.keep(exchange(consent=True)) is Outcome.DECLINED
    assert list(tmp_path.iterdir()) == []


def test_with_mode_off_what_an_earlier_run_spooled_is_shipped(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, given = archive_at(tmp_path), exchange()
    assert earlier.keep(given) is Outcome.SPOOLED
    earlier.close()
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    archive = Archive.start(ArchiveSettings(**{**FAST, "mode": "off"}), tmp_path)
    wait_for(archive.spool.is_empty)
    assert archive.keep(exchange(consent=True)) is Outcome.DECLINED
    bucket.assert_holds({given.request_id: digest(given.photo)})
    archive.close()


def test_a_worker_without_requests_seals_in_time_and_when_asked(tmp_path: Path) -> None:
    archive = archive_at(tmp_path, segment_seconds=0.1)
    assert archive.keep(exchange()) is Outcome.SPOOLED
    wait_for(lambda: bool(archive.spool.sealed()))
    archive.close()
    patient = archive_at(tmp_path / "other", segment_seconds=3600)
    assert patient.keep(exchange()) is Outcome.SPOOLED
    assert len(patient.spool.open_segments()) == 1
    patient.spool.request_flush()
    wait_for(lambda: bool(patient.spool.sealed()))
    patient.close()


@pytest.mark.parametrize("photo_format", photos.FORMATS)
def test_no_metadata_reaches_the_disk(tmp_path: Path, photo_format: str) -> None:
    archive = archive_at(tmp_path)
    sent = photos.phone_photo(photo_format)
    assert archive.keep(exchange(photo=sent, photo_format=photo_format)) is Outcome.SPOOLED
    (path,) = archive.spool.files()
    everything = path.read_bytes()
    assert all(secret not in everything for secret in photos.secrets_of(photo_format))
    jsonschema.validate(json.loads(spooled_records(archive)[0].to_json()), SCHEMA)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"photo": b"no photo at all"}, "not-strippable"),
        ({"mask_png": lambda: 1 / 0}, "error"),
        ({"request_id": "../../etc"}, "error"),
        ({"coverage": float("nan")}, "error"),
    ],
)
def test_whatever_goes_wrong_is_counted_and_never_raised(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    numbers = Numbers()
    archive = archive_at(tmp_path, numbers)
    assert archive.keep(exchange(**changes)) is Outcome.DROPPED
    assert numbers.counts[f"archive_dropped_total[{reason}]"] == 1
    assert archive.spool.files() == []


def test_broken_metrics_break_nothing(tmp_path: Path) -> None:
    class Broken(Numbers):
        def count(self, name: str, labels: Mapping[str, str], amount: int = 1) -> None:
            raise RuntimeError("no metrics today")

    assert archive_at(tmp_path, Broken()).keep(exchange()) is Outcome.SPOOLED


@pytest.mark.parametrize("label", ["x" * 201, "two\nlines", "\x00"])
def test_a_bad_label_costs_the_label_and_not_the_record(tmp_path: Path, label: str) -> None:
    archive = archive_at(tmp_path)
    assert archive.keep(exchange(label=label)) is Outcome.SPOOLED
    assert spooled_records(archive)[0].label is None


def sized(state_dir: Path) -> int:
    """Bytes that one record takes."""
    archive = archive_at(state_dir)
    assert archive.keep(exchange()) is Outcome.SPOOLED
    return archive.spool.backlog().bytes


def test_a_full_spool_drops_counts_and_logs_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    numbers = Numbers()
    size = sized(tmp_path / "one")
    archive = archive_at(tmp_path, numbers, spool_max_bytes=size * 5 // 2)
    with caplog.at_level(logging.WARNING):
        outcomes = [archive.keep(exchange()) for _ in range(20)]
    assert outcomes == [Outcome.SPOOLED] * 2 + [Outcome.DROPPED] * 18
    assert numbers.counts["archive_dropped_total[spool-full]"] == 18
    lines = [record for record in caplog.records if "dropped" in record.message]
    assert len(lines) == 1, "a full spool must not fill the log as well"


def test_a_full_disk_drops_and_the_archive_recovers(small_disk: Path) -> None:
    numbers = Numbers()
    archive = archive_at(small_disk, numbers, spool_keep_free_bytes=0)
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file, pytest.raises(OSError, match="No space left"):
        file.write(b"x" * 3_000_000)
    assert archive.keep(exchange()) is Outcome.DROPPED
    assert numbers.counts["archive_dropped_total[disk-full]"] == 1
    ballast.unlink()
    assert archive.keep(exchange()) is Outcome.SPOOLED


def test_a_read_only_disk_drops_and_the_archive_recovers(small_disk: Path) -> None:
    numbers = Numbers()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    archive = archive_at(small_disk, numbers, spool_keep_free_bytes=0)
    assert archive.keep(exchange()) is Outcome.DROPPED
    assert numbers.counts["archive_dropped_total[disk-read-only]"] == 1
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert archive.keep(exchange()) is Outcome.SPOOLED


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights_drops(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o500)
    assert archive_at(tmp_path).keep(exchange()) is Outcome.DROPPED
