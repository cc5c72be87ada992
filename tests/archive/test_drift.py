"""Drift: quiet on the same photos, however they were sampled; an alarm when a part turns dark or a camera changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from humanseg.archive.read.drift import Finding, as_gauges, drift
from humanseg.archive.read.drift_report import as_html
from humanseg.archive.read.two_samples import (
    Sample,
    adjust,
    compare_categories,
    compare_embeddings,
    compare_numbers,
    compare_shares,
)
from humanseg.cli.archive import app
from tests.archive.commands import archive_photos
from tests.archive.helpers import NOON as NOON_UTC
from tests.archive.helpers import Bucket

Table = dict[str, np.ndarray]
NOON = np.datetime64("2026-11-20T12:00:00", "us")


def photos(count: int, seed: int) -> Table:
    """A table of photos that were all kept."""
    random = np.random.default_rng(seed)
    portrait = random.uniform(size=count) < 0.6
    return {
        "time": NOON - (random.gamma(2, 5, count) * 3.6e9).astype("timedelta64[us]"),
        "coverage": random.beta(2, 4, count),
        "confidence": random.beta(9, 1, count),
        "brightness": random.beta(5, 5, count),
        "contrast": random.beta(3, 9, count),
        "sharpness": random.gamma(3, 0.1, count),
        "width": np.where(portrait, 3024, 4032),
        "height": np.where(portrait, 4032, 3024),
        "sent_format": random.choice(["jpeg", "heic", "png"], count, p=[0.7, 0.2, 0.1]),
        "label": random.choice(np.array(["booth 1", "booth 2", None], object), count),
        "sampling_probability": np.ones(count),
        "passed_over_declined": random.poisson(0.3, count),
        "passed_over_sampled_out": np.zeros(count, int),
        "passed_over_dropped": np.zeros(count, int),
        "embedding": random.normal(size=(count, 8)),
    }


def sampled(table: Table, seed: int) -> Table:
    """What an archive keeps that prefers doubtful photos, each with the probability of its being kept."""
    chance = np.clip(1.4 - 1.2 * table["confidence"], 0.1, 1)
    kept = np.random.default_rng(seed).uniform(size=len(chance)) < chance
    return {name: values[kept] for name, values in {**table, "sampling_probability": chance}.items()}


def changed(findings: list[Finding]) -> set[str]:
    return {finding.name for finding in findings if finding.alarm}


@pytest.mark.slow
def test_the_same_photos_give_no_alarm_in_95_of_100_draws() -> None:
    alarms = significant = 0
    for seed in range(100):
        # one window kept all, the other one sampled: the weights must make up for it
        findings = drift(photos(400, 2 * seed), sampled(photos(900, 2 * seed + 1), seed))
        assert len(findings) == 12
        alarms += bool(changed(findings))
        significant += any(finding.q < 0.05 for finding in findings)
    assert alarms <= 5
    assert significant <= 11, "without a least effect, too, the tests must hold their level of 5 %"


def test_weights_are_what_keeps_it_quiet() -> None:
    blind = {**sampled(photos(3000, 1), 1), "sampling_probability": np.ones(1)}
    blind["sampling_probability"] = np.ones(len(blind["confidence"]))
    assert "confidence" in changed(drift(photos(1000, 2), blind))


def test_an_alarm_when_a_third_turns_dark() -> None:
    now = sampled(photos(1500, 14), 3)
    now["brightness"] = now["brightness"] * np.where(np.arange(len(now["brightness"])) % 3 == 0, 0.25, 1)
    findings = drift(photos(1000, 4), now)
    assert changed(findings) == {"brightness"}
    assert findings[0].name == "brightness"
    assert 0.2 < findings[0].effect < 0.4


def test_an_alarm_when_a_camera_changes() -> None:
    now = photos(600, 5)
    other = np.arange(600) % 2 == 0
    now["width"], now["height"] = np.where(other, 1280, now["width"]), np.where(other, 720, now["height"])
    now["sharpness"] = now["sharpness"] * np.where(other, 0.4, 1)
    now["sent_format"] = np.where(other, "webp", now["sent_format"])
    assert changed(drift(photos(1000, 6), now)) == {"megapixels", "shape (width / height)", "sharpness", "format"}


def test_alarms_for_hours_people_who_say_no_and_embeddings() -> None:
    now = photos(600, 7)
    now["time"] = now["time"] + np.timedelta64(9 * 3600, "s")
    now["passed_over_declined"] = now["passed_over_declined"] + 1
    now["embedding"] = now["embedding"] + 0.5
    assert changed(drift(photos(600, 8), now)) == {"hour", "share declined", "embedding"}


def test_few_photos_and_missing_columns_say_so() -> None:
    before, now = photos(200, 9), photos(20, 10)
    findings = drift(before, now)
    assert not changed(findings)
    assert all(finding.note.startswith("too few photos: 20") for finding in findings)
    old = {name: values for name, values in before.items() if name not in ("brightness", "embedding")}
    assert "brightness" not in {finding.name for finding in drift(old, photos(200, 11))}
    unknown = {**before, "sharpness": np.array([None] * 200, object)}
    assert "too few" in next(finding for finding in drift(unknown, before) if finding.name == "sharpness").note


@pytest.mark.slow
def test_p_values_are_evenly_spread_when_nothing_changes() -> None:
    random = np.random.default_rng(0)
    p_values: dict[str, list[float]] = {"numbers": [], "categories": [], "shares": [], "embeddings": []}

    def draw(values: Any) -> Sample:
        return Sample(values, random.uniform(1, 10, len(values)))

    for _ in range(100):
        p_values["numbers"].append(compare_numbers(draw(random.normal(size=300)), draw(random.normal(size=200))).p)
        names = [draw(random.choice(["a", "b", "c"], count)) for count in (300, 200)]
        p_values["categories"].append(compare_categories(*names).p)
        parts = [(random.poisson(0.5, count).astype(float), np.full(count, 2.0)) for count in (300, 200)]
        p_values["shares"].append(compare_shares(parts[0], parts[1]).p)
        vectors = [Sample(random.normal(size=(80, 4)), np.ones(120)) for _ in range(2)]
        p_values["embeddings"].append(compare_embeddings(*vectors).p)
    for name, chances in p_values.items():
        below = float(np.mean(np.array(chances) < 0.05))
        assert below <= 0.12, f"{name}: {below:.0%} of the p values are below 5 %"
        assert 0.35 < float(np.median(chances)) < 0.7, name


def test_effects_are_the_shares_that_they_say() -> None:
    sample = Sample(np.arange(1000.0), np.ones(1000))
    assert compare_numbers(sample, Sample(np.arange(1000.0) + 250, np.ones(1000))).effect == pytest.approx(
        0.25, abs=0.01
    )
    names = Sample(np.array(["a"] * 50 + ["b"] * 50), np.ones(100))
    heavy = Sample(np.array(["a"] * 50 + ["b"] * 50), np.array([1.0] * 50 + [3.0] * 50))
    assert compare_categories(names, heavy).effect == pytest.approx(0.25)
    assert adjust([]) == []


def test_the_report_and_the_gauges_name_what_changed() -> None:
    now = photos(400, 12)
    now["brightness"] = now["brightness"] * 0.3
    now["label"] = np.array(["<b>"] * 400, object)
    findings = drift(photos(400, 13), now)
    text = as_html(findings, "4 weeks", "1 week")
    assert "Changed: label, brightness." in text or "Changed: brightness, label." in text
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    gauges = as_gauges(findings, 1_795_000_000.5).splitlines()
    assert 'humanseg_archive_drift_alarm{variable="brightness"} 1' in gauges
    assert 'humanseg_archive_drift_alarm{variable="hour"} 0' in gauges
    assert "humanseg_archive_drift_time_seconds 1795000000" in gauges


def test_the_command_reads_tables_and_tells_a_scheduler(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    start = np.datetime64("now", "us")
    before, now = photos(400, 15), photos(300, 16)
    dark = {**now, "brightness": now["brightness"] * 0.3}
    for name, table, days in (("before", before, 20), ("now", now, 3), ("dark", dark, 3)):
        table["time"] = start - (table["time"] - NOON) % np.timedelta64(86400, "s") - np.timedelta64(days, "D")
        table["sampling_reason"] = np.array(["sample"] * len(table["time"]), object)
        columns = {key: values.tolist() if values.ndim == 2 else values for key, values in table.items()}
        columns["time"] = pa.array(table["time"], pa.timestamp("us", tz="UTC"))
        for folder in ("quiet", "loud"):
            if name not in ("dark", "now") or (name == "dark") == (folder == "loud"):
                (tmp_path / folder).mkdir(exist_ok=True)
                pq.write_table(pa.table(columns), tmp_path / folder / f"{name}.parquet")
    windows = ["--reference", "28d..7d", "--current", "7d"]
    assert CliRunner().invoke(app, ["drift", *windows, "--tables", str(tmp_path / "quiet")]).exit_code == 0
    report, metrics = tmp_path / "drift.html", tmp_path / "drift.prom"
    files = ["--report", str(report), "--metrics", str(metrics)]
    result = CliRunner().invoke(app, ["drift", *windows, "--tables", str(tmp_path / "loud"), *files])
    assert result.exit_code == 3, result.output
    assert "Changed: brightness." in result.output
    assert "<svg" in report.read_text()
    assert 'drift_alarm{variable="brightness"} 1' in metrics.read_text()
    wrong = CliRunner().invoke(app, ["drift", "--reference", "7d..28d", "--current", "7d"])
    assert wrong.exit_code == 1
    assert "FROM before TO" in str(wrong.exception)


def test_the_command_reads_the_bucket(tmp_path: Path, bucket: Bucket, run: Callable[..., Result]) -> None:
    look = {"appearance": lambda: (0.5, 0.2, 0.3)}
    dark = {"appearance": lambda: (0.1, 0.1, 0.3)}
    archive_photos(tmp_path, bucket, 60, time=NOON_UTC - timedelta(days=10), **look)
    archive_photos(tmp_path, bucket, 60, time=NOON_UTC, **dark)
    windows = ["--reference", "2026-11-01..2026-11-15", "--current", "2026-11-15..2026-11-30"]
    report = {row["name"]: row for row in json.loads(run("drift", *windows, "--json", status=3).stdout)}
    assert {name for name, finding in report.items() if finding["alarm"]} == {"brightness", "contrast"}
    assert (report["brightness"]["before"], report["brightness"]["now"]) == ("0.5", "0.1")
    assert report["sharpness"]["effect"] == report["hour"]["effect"] == 0
