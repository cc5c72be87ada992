"""A change that no column of the table shows, seen by the network: a camera that was hung up the other way round."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from humanseg.archive.capture.hook import Outcome
from humanseg.archive.capture.strip_metadata import strip_jpeg
from humanseg.archive.ship.local_store import LocalStore
from humanseg.cli.archive import app
from humanseg.loop.predictions import Window
from humanseg.loop.replay import here, replay
from humanseg.training.encoder import load_encoder
from tests.archive.helpers import NOON, Bucket, bucket_of, exchange
from tests.archive.shipping import uploader_for, writer
from tests.running import ROOT

pytestmark = pytest.mark.slow
PHOTOS = 55
PORTRAIT = cv2.imread(str(ROOT / "tests" / "photos" / "astronaut.jpg"))
LOOK = 0.5, 0.2, 0.3  # brightness, contrast and sharpness of all


def portrait(random: np.random.Generator) -> np.ndarray:
    """A part of the astronaut's portrait, 96 x 64, as somebody else might have framed it."""
    width = int(random.integers(300, 480))
    height = width * 2 // 3
    x, y = int(random.integers(0, 512 - width)), int(random.integers(0, 512 - height))
    part = PORTRAIT[y : y + height, x : x + width]
    return cv2.resize(part, (96, 64), interpolation=cv2.INTER_AREA)


def archive_portraits(state_dir: Path, time: datetime, seed: int, turn: Callable[[np.ndarray], np.ndarray]) -> None:
    """Portraits into the spool."""
    random = np.random.default_rng(seed)
    archive = writer(state_dir)
    for _ in range(PHOTOS):
        _, photo = cv2.imencode(".jpg", turn(portrait(random)))
        given = exchange(photo=strip_jpeg(photo.tobytes()), time=time, appearance=lambda: LOOK)
        assert archive.keep(given) is Outcome.SPOOLED
    archive.close()


@pytest.fixture(scope="module")
def bucket(local_store: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    """Portraits twenty and ten days before NOON, and upside down at NOON."""
    bucket, folder = bucket_of(local_store), tmp_path_factory.mktemp("portraits")
    for days, seed, turn in ((20, 0, np.asarray), (10, 1, np.asarray), (0, 2, np.flipud)):
        archive_portraits(folder, NOON - timedelta(days=days), seed, turn)
    assert uploader_for(folder, bucket).drain(60).left.segments == 0
    return bucket


@pytest.fixture(scope="module")
def replayed(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replayed")
    encoder = load_encoder(ROOT / "model_store" / "human_segmentation.mar", folder / "graph")
    window = Window(NOON - timedelta(days=30))
    work = here(bucket.reader, encoder, window)
    replay(bucket.reader, encoder.candidate.weights_sha256, folder / "to", window, work)
    return folder / "to"


@pytest.fixture
def drift(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs `humanseg archive drift` against the days of the first portraits; the findings by name."""
    for name, value in {**bucket.environment, "STATE_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)

    def call(days: int, *more: object, status: int) -> dict[str, Any]:
        since = NOON - timedelta(days=days, hours=1)
        current = f"{since:%Y-%m-%dT%H:%M}..{since + timedelta(hours=2):%Y-%m-%dT%H:%M}"
        arguments = ["drift", "--reference", "2026-10-30..2026-11-02", "--current", current, "--json"]
        result = CliRunner().invoke(app, [*arguments, *map(str, more)])
        assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
        return {row["name"]: row for row in json.loads(result.stdout)} if status in (0, 3) else {}

    return call


def test_the_same_kind_of_photos_gives_no_alarm(drift: Callable[..., dict[str, Any]], replayed: Path) -> None:
    findings = drift(10, "--predictions", replayed, status=0)
    assert findings["embedding"]["photos"] == [PHOTOS, PHOTOS]
    assert findings["embedding"]["note"] == ""
    assert findings["embedding"]["q"] > 0.05


def test_an_alarm_when_only_the_network_can_see_the_change(
    drift: Callable[..., dict[str, Any]], replayed: Path, tmp_path: Path
) -> None:
    assert "embedding" not in drift(0, status=0)
    metrics = tmp_path / "drift.prom"
    findings = drift(0, "--predictions", replayed, "--metrics", metrics, status=3)
    assert {name for name, finding in findings.items() if finding["alarm"]} == {"embedding"}
    assert findings["embedding"]["q"] > findings["embedding"]["p"], "it is corrected together with the others"
    assert 'humanseg_archive_drift_alarm{variable="embedding"} 1' in metrics.read_text()


def test_photos_that_were_not_replayed_are_left_out_and_two_models_are_not_compared(
    drift: Callable[..., dict[str, Any]], replayed: Path, tmp_path: Path
) -> None:
    (tmp_path / "some").mkdir()
    for path in sorted(replayed.glob("*.parquet"))[:-1]:
        (tmp_path / "some" / path.name).write_bytes(path.read_bytes())
    findings = drift(0, "--predictions", tmp_path / "some", status=0)
    assert findings["embedding"]["note"].startswith("too few photos: 0 effective")
    rows = pq.read_table(sorted(replayed.glob("*.parquet"))[-1])
    other = rows.set_column(2, "weights_sha256", pa.array(["0" * 64] * len(rows)))
    pq.write_table(other, tmp_path / "some" / "other.parquet")
    drift(0, "--predictions", tmp_path / "some", status=1)
