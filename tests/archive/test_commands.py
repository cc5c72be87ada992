"""`humanseg archive ...` on a real store: what people who use the archive can see, take out, put back and erase."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from humanseg.archive.read.retention import set_retention
from humanseg.archive.read.stats import COLUMNS, count
from humanseg.archive.ship import groups
from humanseg.archive.ship.store import BucketSettings, Store
from tests.archive.commands import Run, archive_photos, lines, put_uncommitted
from tests.archive.helpers import NOON, SCHEMA, Bucket, exchange
from tests.archive.shipping import fill, spool_at, uploader_for, writer

ROOT = Path(__file__).resolve().parents[2]


def test_ls_lists_committed_records_by_day_model_confidence_and_label(
    tmp_path: Path, bucket: Bucket, run: Run
) -> None:
    old = archive_photos(tmp_path, bucket, 2, time=NOON - timedelta(days=3), label="booth 3")
    new = archive_photos(tmp_path, bucket, 2, confidence=0.2, model_version="2.0")
    put_uncommitted(bucket)
    whole = lines(run("ls", "--json"))
    assert {record["request_id"] for record in whole[:2]} == set(old)
    assert {record["request_id"] for record in whole} == {*old, *new}, "an uncommitted record is listed"
    assert (whole[0]["sampling_reason"], whole[0]["sampling_probability"]) == ("sample", 1.0)
    jsonschema.validate(whole[0], SCHEMA)

    def ids(*arguments: str) -> set[str]:
        return {line["request_id"] for line in lines(run("ls", "--json", *arguments))}

    assert ids("--date", "2026-11-17") == set(old)
    assert ids("--since", "2026-11-18") == set(new)
    assert ids("--until", "2026-11-20T12:00") == set(old)
    assert ids("--model", "2.0") == ids("--model", "human_segmentation/2.0") == set(new)
    assert ids("--below-confidence", "0.5") == set(new)
    assert ids("--label", "booth 3") == set(old)
    assert len(lines(run("ls", "--json", "--limit", "1"))) == 1
    assert new[0] in run("ls").stdout


def test_show_draws_photo_mask_and_both(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    (request_id,) = archive_photos(tmp_path, bucket, 1)
    result = run("show", request_id, "--to", tmp_path / "look.png")
    assert json.loads(result.stdout)["request_id"] == request_id
    with Image.open(tmp_path / "look.png") as sheet:
        assert sheet.size == (3 * 720 + 20, 480)
        sheet_pixels = np.asarray(sheet)
    assert (sheet_pixels[240, 730 + 360] == 255).all(), "the mask's middle is a person"
    run("show", request_id, "--date", "2026-11-20")
    assert (tmp_path / f"{request_id}.png").stat().st_mode & 0o077 == 0, (
        "a photo of a person is for its reader's eyes"
    )


def test_show_leaves_nothing_in_tmp_where_there_is_a_desktop(
    tmp_path: Path, bucket: Bucket, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (request_id,) = archive_photos(tmp_path, bucket, 1)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("DISPLAY", ":0")
    opened: list[str] = []
    monkeypatch.setattr("humanseg.cli.archive.typer.launch", lambda path: opened.append(path))
    run("show", request_id)
    assert opened == [f"{request_id}.png"]
    assert list(temporary.iterdir()) == []


def test_show_of_an_unknown_record_is_one_sentence(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    result = run("show", "not-there", status=1)
    assert "no committed record not-there" in str(result.exception)


def test_stats_weight_by_probability_and_know_who_declined(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive = writer(tmp_path)
    for _ in range(3):
        archive.keep(exchange(consent=False))
    archive.keep(exchange(1, coverage=0.4, confidence=0.9))
    assert uploader_for(tmp_path, bucket).drain(30).shipped == 1
    (day,) = json.loads(run("stats", "--since", "2026-11-01", "--png", tmp_path / "s.png", "--json").stdout)
    assert day["day"] == "2026-11-20"
    assert (day["records"], day["declined"], day["share_declined"]) == (1, 3, 0.75)
    assert (day["coverage"], day["confidence"]) == (0.4, 0.9)
    with Image.open(tmp_path / "s.png") as chart:
        assert chart.width >= 480
    assert "2026-11-20" in run("stats", "--since", "2026-11-01").stdout


def test_stats_of_a_sample_estimate_the_whole() -> None:
    values = {name: [0, 0] for name in COLUMNS}
    table = pa.table(
        {
            **values,
            "time": [NOON, NOON],
            "photo_sha256": ["ab", "ab"],
            "sampling_reason": ["sample", "low-confidence"],
            "coverage": [0.1, 0.9],
            "confidence": [0.5, 0.5],
            "sampling_probability": [0.1, 1.0],
        }
    )
    (day,) = count([table])
    assert day.coverage == pytest.approx((10 * 0.1 + 0.9) / 11)
    assert (day.records, day.different_photos, day.low_confidence) == (2, 1, 1)


def test_verify_reads_everything(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 4)
    key = put_uncommitted(bucket)
    report = json.loads(run("verify", "--json").stdout)
    assert (report["records"], report["uncommitted"], report["problems"]) == (4, [key], [])


@pytest.mark.slow
def test_sql_is_answered_from_the_tables_and_changes_nothing(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive_photos(tmp_path, bucket, 3, confidence=0.2)
    archive_photos(tmp_path, bucket, 2, time=NOON + timedelta(days=1))
    asked = "SELECT dt, hour, count(*) AS n, min(confidence) AS low FROM records GROUP BY ALL ORDER BY dt"
    assert lines(run("query", asked, "--json")) == [
        {"dt": "2026-11-20", "hour": "12", "n": 3, "low": 0.2},
        {"dt": "2026-11-21", "hour": "12", "n": 2, "low": 0.9},
    ]
    assert run("query", asked, "--csv").stdout.splitlines()[:2] == ["dt,hour,n,low", "2026-11-20,12,3,0.2"]
    assert "2026-11-21" in run("query", asked).stdout
    assert lines(run("query", "SELECT count(*) n FROM records", "--since", "2026-11-21", "--json")) == [{"n": 2}]
    first = lines(run("query", "SELECT time FROM records ORDER BY time LIMIT 1", "--json"))
    assert first == [{"time": "2026-11-20 12:00:00.250000+00:00"}]
    assert lines(run("query", "SELECT count(*) n FROM labels", "--json")) == [{"n": 0}]
    columns = {line.split(",")[1] for line in run("query", "--schema", "--csv").stdout.splitlines()[1:]}
    assert {"request_id", "coverage", "photo_offset", "dt", "corrected_by"} <= columns


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT nothing FROM records", "nothing"),
        ("DROP VIEW records", "one SELECT"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("COPY (SELECT 1) TO 'x.csv'", "Permission|one SELECT"),
        ("SELECT * FROM read_csv('/etc/hostname')", "Permission"),
        ("SELECT * FROM numbers", "numbers"),
    ],
)
def test_sql_that_is_no_question_is_refused(tmp_path: Path, bucket: Bucket, run: Run, sql: str, message: str) -> None:
    assert re.search(message, str(run("query", sql, status=1).exception))
    assert not (tmp_path / "x.csv").exists()


def test_retention_sets_rules_and_keeps_those_of_others(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    client = bucket.store.client
    theirs = {
        "ID": "theirs",
        "Status": "Enabled",
        "Filter": {"Prefix": "other/"},
        "Expiration": {"Days": 7},
    }
    client.put_bucket_lifecycle_configuration(Bucket="archive", LifecycleConfiguration={"Rules": [theirs]})
    run("retention", 90)
    rules = {rule["ID"]: rule for rule in json.loads(run("retention", 30, "--json").stdout)}
    assert rules["theirs"]["Expiration"] == {"Days": 7}
    ours = rules[f"humanseg-{bucket.store.destination.prefix}-expire"]
    assert ours["Expiration"]["Days"] == 30
    assert ours["Filter"]["Prefix"] == f"{bucket.store.destination.prefix}/"
    assert ours["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 2
    assert len(rules) == 3, "setting it again replaced our rules"
    for prefix in ("-staging", "/a", "/a-b", "-a/b"):  # other archives in the same bucket
        name = bucket.store.destination.prefix + prefix
        destination = replace(bucket.store.destination, prefix=name)
        set_retention(Store(bucket.store.client, destination, BucketSettings()), 7)
    rules = {rule["ID"]: rule for rule in json.loads(run("retention", 20, "--json").stdout)}
    assert len(rules) == 3 + 4 * 2
    assert ours["Filter"] in [rule["Filter"] for rule in rules.values() if rule["Expiration"] == {"Days": 20}]
    assert "theirs" in run("retention").stdout


def test_ship_drains_and_retries_what_was_rejected(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    refused = fill(tmp_path, 1)
    spool = spool_at(tmp_path)
    group = groups.fix(spool, spool.sealed())
    assert group
    groups.reject(spool, group, "AccessDenied")
    acknowledged = fill(tmp_path, 2)
    first = json.loads(run("ship", "--drain", "--deadline", "30", "--json").stdout)
    assert (first["shipped"], first["left_segments"], first["left_rejected"]) == (2, 0, 1)
    second = json.loads(run("ship", "--drain", "--retry-rejected", "--json").stdout)
    assert (second["shipped"], second["left_rejected"]) == (1, 0)
    bucket.assert_holds({**acknowledged, **refused})


def test_a_drain_beside_a_running_worker_ships_what_it_has_open(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    archive = writer(tmp_path, segment_seconds=3600)
    assert archive.keep(exchange()).value == "spooled"
    assert len(spool_at(tmp_path).open_segments()) == 1
    assert json.loads(run("ship", "--drain", "--deadline", "30", "--json").stdout)["shipped"] == 1
    archive.close()


def test_a_listing_says_what_is_not_in_the_bucket_yet(tmp_path: Path, bucket: Bucket, run: Run) -> None:
    fill(tmp_path, 1)
    for command in ("ls", "stats"):
        result = run(command)
        assert "not in the bucket yet" in result.stderr
        assert "archive ship --drain" in result.stderr
    run("ship", "--drain")
    assert run("ls").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ls", "--since", "yesterday"), "is not a time"),
        (("ls", "--date", "20.11.2026"), "is not a date"),
        (("erase", "../x", "--yes"), "request id"),
    ],
)
def test_a_wrong_argument_is_named(run: Run, arguments: tuple[str, ...], message: str) -> None:
    assert message in str(run(*arguments, status=1).exception)


@pytest.mark.slow
def test_a_store_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "ARCHIVE_BUCKET": "x",
        "ARCHIVE_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    command = [sys.executable, "-m", "humanseg.cli.main", "archive", "ls"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 1
    assert "the store can't be reached" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_help_is_quick_because_boto3_is_not_loaded() -> None:
    names = ("boto3", "numpy", "PIL", "torch", "pyarrow", "duckdb")
    code = f"import sys, humanseg.cli.archive; print([n for n in {names} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
