"""Who is kept and why; what a record says, and what it never says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from humanseg.archive.capture.names import make_name, parse_name, replacement_name, segment_key, table_key
from humanseg.archive.capture.record import ClipFrame, StoredRecord, build_record
from humanseg.archive.capture.sampling import allowed, decide
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.errors import NoStore
from humanseg.archive.ship.destination import Destination
from humanseg.common.settings import SettingsError
from tests.archive.helpers import NOON, SCHEMA, exchange


@pytest.mark.parametrize(
    ("mode", "consent", "expected"),
    [
        ("off", None, "declined"),
        ("off", True, "declined"),
        ("off", False, "declined"),
        ("opt-in", None, "declined"),
        ("opt-in", True, "request"),
        ("opt-in", False, "declined"),
        ("opt-out", None, "sample"),
        ("opt-out", True, "request"),
        ("opt-out", False, "declined"),
        ("all", None, "sample"),
        ("all", True, "request"),
        ("all", False, "sample"),
    ],
)
def test_mode_and_consent_decide(mode: str, consent: bool | None, expected: str) -> None:
    decision = decide(ArchiveSettings(mode=mode), "a1", 0.9, consent)
    assert decision.reason == expected
    assert decision.kept == allowed(ArchiveSettings(mode=mode), consent) == (expected != "declined")


def test_low_confidence_and_requests_are_kept_whatever_the_sample() -> None:
    settings = ArchiveSettings(sample=0.0, low_confidence=0.6)
    assert decide(settings, "a1", 0.59, None).reason == "low-confidence"
    assert decide(settings, "a1", 0.6, None).reason == "sampled-out"
    assert decide(settings, "a1", 0.99, True).reason == "request"
    assert decide(settings, "a1", 0.59, False).reason == "declined"


def test_weighting_by_the_recorded_probability_is_unbiased() -> None:
    """Coverage that goes with confidence: the plain mean over kept records is off, the weighted one is not."""
    settings = ArchiveSettings(sample=0.2, low_confidence=0.3)
    total = weight = weighted = plain = kept = 0.0
    number = 40_000
    for index in range(number):
        confidence = (index * 7919 % 1000) / 1000
        coverage = 0.2 + 0.6 * confidence
        total += coverage
        decision = decide(settings, f"id-{index}", confidence, None)
        if decision.kept:
            kept, plain = kept + 1, plain + coverage
            weight += 1 / decision.probability
            weighted += coverage / decision.probability
    assert weight == pytest.approx(number, rel=0.02)
    assert weighted / weight == pytest.approx(total / number, rel=0.01)
    assert abs(plain / kept - total / number) > 0.05


def record_of(**changes: Any) -> dict[str, Any]:
    given = exchange(**changes)
    built = build_record(
        given,
        given.photo,
        "jpeg",
        given.mask_png(),
        mode="opt-out",
        reason="sample",
        probability=0.25,
        passed_over={"declined": 1, "sampled_out": 2, "dropped": 0},
    )
    about: dict[str, Any] = json.loads(built.stored.to_json())
    return about


@pytest.mark.parametrize("clip", [None, ClipFrame("7e1-a", 12.5, "cd" * 32)])
def test_a_records_json_follows_its_schema_and_comes_back(clip: ClipFrame | None) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    about = record_of(consent=True, label="stand 3", clip=clip)
    assert about["clip_seconds"] == (12.5 if clip else None)
    jsonschema.validate(about, SCHEMA)
    assert json.loads(StoredRecord.from_json(json.dumps(about)).to_json()) == about
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**about, "client": "10.0.0.1"}, SCHEMA)


def test_the_schema_has_no_place_for_who_sent_the_photo() -> None:
    def names(schema: Mapping[str, Any]) -> set[str]:
        properties = set(schema.get("properties", {}))
        for part in schema.get("properties", {}).values():
            properties |= names(part)
            if part.get("type") == "object" and "properties" in part:
                assert part["additionalProperties"] is False
        return properties

    forbidden = re.compile(r"address|ip$|header|agent|filename|file_name|exif|gps|key|token|user", re.IGNORECASE)
    assert not [name for name in names(SCHEMA) if forbidden.search(name)]


def test_the_key_is_made_of_the_first_records_utc_time() -> None:
    zone = timezone(timedelta(hours=-7))
    name = make_name(datetime(2026, 1, 31, 20, 30, tzinfo=zone), "4f1c8e0a", 7)
    assert name.text == "20260201T033000.000000Z-4f1c8e0a-000007"
    assert segment_key("p/v2", name) == f"p/v2/segments/dt=2026-02-01/hour=03/{name.text}.tar"
    assert table_key("p/v2", name) == f"p/v2/records/dt=2026-02-01/hour=03/{name.text}.parquet"
    assert parse_name(table_key("p/v2", name)) == parse_name(segment_key("p/v2", name)) == name


def test_what_replaces_segments_sorts_behind_them() -> None:
    names = [make_name(NOON + timedelta(seconds=at), "ffffffff", 999_999) for at in range(3)]
    once = replacement_name(names)
    twice = replacement_name([once, names[0]])
    assert [*(name.text for name in names), once.text, twice.text] == sorted(
        [*(name.text for name in names), once.text, twice.text]
    )
    assert (once.partition, twice.generation) == (names[0].partition, 2)


@pytest.mark.parametrize("bad", ["", "../x", "a/b", "a b", "x" * 65, "a_b", "-a"])
def test_an_id_that_cannot_be_a_members_name_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="request id"):
        record_of(request_id=bad)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="timezone"):
        record_of(time=NOON.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"mode": "some"}, "archive.mode"),
        ({"sample": 1.5}, "archive.sample"),
        ({"sample": "half"}, "archive.sample"),
        ({"sample": True}, "archive.sample"),
        ({"fsync": "yes"}, "archive.fsync"),
        ({"spool_max_bytes": 0}, "archive.spool_max_bytes"),
        ({"segment_bytes": 2.5}, "archive.segment_bytes"),
        ({"segment_seconds": 0}, "archive.segment_seconds"),
        ({"upload_threads": 0}, "archive.upload_threads"),
        ({"encryption": "rot13"}, "archive.encryption"),
        ({"kms_key_id": "abc"}, "archive.encryption"),
        ({"backoff_cap_seconds": -1}, "archive.backoff_cap_seconds"),
        ({"sampel": 0.5}, "archive.sampel"),
        (["mode"], "'archive' must contain keys and values"),
    ],
)
def test_a_wrong_setting_is_named(section: Any, named: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(named)):
        ArchiveSettings.from_mapping(section)


def test_yaml_reads_off_as_false_and_it_means_off() -> None:
    assert ArchiveSettings.from_mapping({"mode": False}).mode == "off"
    assert ArchiveSettings.from_mapping(None) == ArchiveSettings()


def test_the_environment_names_any_s3(tmp_path: Path) -> None:
    destination = Destination.find(
        {"ARCHIVE_BUCKET": "b", "ARCHIVE_PREFIX": "/a/b/", "AWS_REGION": "eu-west-1"}, tmp_path
    )
    assert destination == Destination("b", "a/b", None, "eu-west-1")
    assert destination.access_key is None, "credentials of a real bucket come from boto3's chain alone"


@pytest.mark.parametrize("prefix", ["", "/", "a//b", "a b", "../up", "ä"])
def test_a_bad_prefix_is_named(prefix: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ARCHIVE_PREFIX"):
        Destination.find({"ARCHIVE_BUCKET": "b", "ARCHIVE_PREFIX": prefix}, tmp_path)


def test_without_any_store_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoStore, match=r"ARCHIVE_BUCKET.*serve\.sh"):
        Destination.find({}, tmp_path)
