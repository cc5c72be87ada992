"""Replay on a real store: each photo once, by the way of serving, resumed after a fault, never of two models."""

from __future__ import annotations

import dataclasses
import io
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pycocotools import mask as pycoco
from typer.testing import CliRunner

from humanseg.archive.capture.hook import open_spool
from humanseg.archive.read.compact import compact
from humanseg.archive.read.erasing import erase
from humanseg.archive.ship.local_store import LocalStore
from humanseg.cli.replay import app
from humanseg.loop.predictions import SCHEMA, STATISTICS, Window, summary_of
from humanseg.loop.replay import Replayed, here, replay
from humanseg.segmentation.photo import Pixels, read_photo
from humanseg.segmentation.result import Segmentation
from humanseg.segmentation.unet import UNet
from humanseg.segmentation.weights import save_weights
from humanseg.training.candidates import load_candidate
from humanseg.training.encoder import EMBEDDED, Encoder, Features, embed, load_encoder
from tests.archive.commands import archive_photos
from tests.archive.helpers import NOON, Bucket, bucket_of

SINCE = NOON - timedelta(days=9)


@dataclasses.dataclass(frozen=True)
class Counting(Encoder):
    """An encoder that counts photos and stops at one of them."""

    seen: list[int] = dataclasses.field(default_factory=list)
    fail_at: int = 10**9

    def segment(self, pixels: Pixels) -> tuple[Segmentation, Features]:
        self.seen.append(1)
        if len(self.seen) == self.fail_at:
            raise KeyboardInterrupt
        return super().segment(pixels)


def run(bucket: Bucket, encoder: Encoder, to: Path, **more: Any) -> Replayed:
    window = Window(SINCE)
    work = here(bucket.reader, encoder, window)
    return replay(bucket.reader, encoder.candidate.weights_sha256, to, window, work, **more)


def rows_in(to: Path) -> list[dict[str, Any]]:
    return [row for path in to.glob("*.parquet") for row in pq.read_table(path).to_pylist()]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "new.safetensors"
    torch.manual_seed(0)
    save_weights(path, UNet((4, 8)).eval(), architecture="unet", input_size=64, threshold=0.5)
    return path


@pytest.mark.slow
def test_a_replay_that_was_cut_off_goes_on_and_counts_each_photo_once(
    tmp_path: Path,
    local_store: LocalStore,
    weights: Path,
) -> None:
    bucket: Bucket = bucket_of(local_store)
    ids = [
        photo for day in range(3) for photo in archive_photos(tmp_path, bucket, 4, time=NOON - timedelta(days=day))
    ]
    archive_photos(tmp_path, bucket, 2, time=NOON - timedelta(days=20))  # too old
    plain = load_encoder(weights, tmp_path / "graph")
    to = tmp_path / "replay"
    with pytest.raises(KeyboardInterrupt):
        run(bucket, Counting(plain.candidate, plain.engine, fail_at=6), to)
    assert len(list(to.glob("*.parquet"))) == 1, "a segment is written whole or not at all"
    again = Counting(plain.candidate, plain.engine)
    steps: list[tuple[int, int]] = []
    result = run(bucket, again, to, progress=lambda *step: steps.append(step))
    assert (result.segments, result.skipped, result.photos, result.problems) == (2, 1, 8, 0)
    assert len(again.seen) == 8
    assert steps == [(2, 3), (3, 3)]
    rows = rows_in(to)
    assert sorted(row["request_id"] for row in rows) == sorted(ids)

    record = bucket.reader.find(rows[0]["request_id"])
    assert record
    photo, served = bucket.reader.photo_and_mask(record)
    pixels = read_photo(photo).pixels
    mask = load_candidate(weights, tmp_path / "served").segment(pixels).mask > 0
    packed = {"size": list(mask.shape), "counts": rows[0]["mask_rle"].encode()}
    assert (pycoco.decode(packed) > 0).tolist() == mask.tolist()
    old = np.asarray(Image.open(io.BytesIO(served))) > 0
    assert rows[0]["disagreement"] == pytest.approx(1 - (mask & old).sum() / (mask | old).sum())
    assert rows[0]["served_coverage"] == 0.35
    assert len(rows[0]["embedding"]) == EMBEDDED
    assert rows[0]["embedding"] == embed(plain.segment(pixels)[1]).tolist()

    other = dataclasses.replace(plain, candidate=dataclasses.replace(plain.candidate, weights_sha256="0" * 64))
    with pytest.raises(ValueError, match="contains a replay with weights_sha256"):
        run(bucket, other, to)


@pytest.mark.slow
def test_the_command_goes_on_with_the_same_words_though_the_time_they_mean_has_moved(
    tmp_path: Path, local_store: LocalStore, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_of(local_store)
    now = datetime.now(timezone.utc)
    archive_photos(tmp_path, bucket, 12, time=now - timedelta(days=1))
    for name, value in {**bucket.environment, "STATE_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)

    def call(since: str) -> dict[str, Any]:
        arguments = ["--mar", str(weights), "--to", str(tmp_path / "replay"), "--since", since, "--json"]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    first = call("2d")
    assert (first["skipped"], first["photos"], len(first["most"])) == (0, 12, 10)
    again = call("2d")
    assert (again["segments"], again["skipped"], again["photos"]) == (0, first["segments"], 12)
    with pytest.raises(ValueError, match="contains a replay with since"):
        call("3d")


@pytest.mark.slow
def test_records_that_were_compacted_or_erased_are_there_once_or_not_at_all(
    tmp_path: Path, local_store: LocalStore, weights: Path
) -> None:
    bucket = bucket_of(local_store)
    ids = [photo for _ in range(3) for photo in archive_photos(tmp_path, bucket, 2)]
    encoder = load_encoder(weights, tmp_path / "graph")
    to = tmp_path / "replay"
    assert run(bucket, encoder, to).segments == 3
    erased = erase(bucket.reader, open_spool(tmp_path), ids[:1])[0]
    assert [note["folder"] for note in erased.exports] == [str(to)], "who erases is told of the replay"
    compact(bucket.reader, NOON - timedelta(days=1), now=NOON + timedelta(days=2))
    run(bucket, encoder, to)
    assert sorted(row["request_id"] for row in rows_in(to)) == sorted(ids[1:])
    assert len(list(to.glob("*.parquet"))) == len(bucket.reader.records.tables(f"{NOON:%Y-%m-%d}"))


@pytest.mark.slow
def test_a_segment_that_is_rewritten_during_a_replay_is_done_under_its_new_name(
    tmp_path: Path, local_store: LocalStore, weights: Path
) -> None:
    bucket = bucket_of(local_store)
    ids = [photo for _ in range(3) for photo in archive_photos(tmp_path, bucket, 2)]
    encoder = load_encoder(weights, tmp_path / "graph")

    def meanwhile(done: int, total: int) -> None:
        if done == 1 and total == 3:
            compact(bucket.reader, NOON - timedelta(days=1), now=NOON + timedelta(days=2))

    run(bucket, encoder, tmp_path / "replay", progress=meanwhile)
    assert sorted(row["request_id"] for row in rows_in(tmp_path / "replay")) == sorted(ids)


@pytest.mark.slow
def test_a_segment_that_ends_its_workers_is_named_and_tried_again_by_the_next_run(
    tmp_path: Path, local_store: LocalStore, weights: Path
) -> None:
    bucket = bucket_of(local_store)
    ids = [
        photo for hour in range(3) for photo in archive_photos(tmp_path, bucket, 1, time=NOON + timedelta(hours=hour))
    ]
    encoder = load_encoder(weights, tmp_path / "graph")
    to, window = tmp_path / "replay", Window(SINCE)
    work = here(bucket.reader, encoder, window)
    digest = encoder.candidate.weights_sha256
    result = replay(bucket.reader, digest, to, window, lambda segments: work(segments[1:]))
    assert (result.segments, len(result.failed)) == (2, 1)
    assert not (to / f"{result.failed[0]}.parquet").exists()
    assert replay(bucket.reader, digest, to, window, work).failed == ()
    assert sorted(row["request_id"] for row in rows_in(to)) == sorted(ids)


def test_a_summary_weighs_photos_and_counts_what_could_not_be_read() -> None:
    rows = [
        {"request_id": "a", "disagreement": 0.4, "sampling_probability": 1.0, "seconds": 0.1},
        {"request_id": "b", "disagreement": 0.0, "sampling_probability": 0.25, "seconds": 0.1},
        {"request_id": "c", "sampling_probability": 1.0, "problem": "it is damaged"},
    ]
    summary = summary_of([pa.Table.from_pylist(rows, schema=SCHEMA).select(STATISTICS)])
    assert (summary["photos"], summary["problems"]) == (2, 1)
    assert summary["mean_disagreement"] == pytest.approx(0.08)
    assert summary["share_over_10_percent"] == pytest.approx(0.2)
    assert summary["most"][0]["request_id"] == "a"
    assert summary_of([])["mean_disagreement"] is None
