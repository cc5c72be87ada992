"""Replay on a real store: each photo once, by the way of serving, resumed after a fault, never of two models."""

from __future__ import annotations

import dataclasses
import io
import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pycocotools import mask as pycoco
from typer.testing import CliRunner

from humanseg.archive.ship.local_store import LocalStore
from humanseg.cli.replay import app
from humanseg.loop.replay import SCHEMA, replay, summary_of
from humanseg.segmentation.photo import Pixels, read_photo
from humanseg.segmentation.result import Segmentation
from humanseg.segmentation.unet import UNet
from humanseg.segmentation.weights import save_weights
from humanseg.training.candidates import Candidate, load_candidate
from tests.archive.helpers import NOON, Bucket, bucket_of
from tests.archive.test_commands import archive_photos

SINCE = NOON - timedelta(days=9)


@dataclasses.dataclass(frozen=True)
class Counting(Candidate):
    """A candidate that counts photos and stops at one of them."""

    seen: list[int] = dataclasses.field(default_factory=list)
    fail_at: int = 10**9

    def segment(self, pixels: Pixels) -> Segmentation:
        self.seen.append(1)
        if len(self.seen) == self.fail_at:
            raise KeyboardInterrupt
        return super().segment(pixels)


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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket: Bucket = bucket_of(local_store)
    ids = [one for day in range(3) for one in archive_photos(tmp_path, bucket, 4, time=NOON - timedelta(days=day))]
    archive_photos(tmp_path, bucket, 2, time=NOON - timedelta(days=20))  # too old
    plain = load_candidate(weights, tmp_path / "graph")
    fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(Candidate)}
    cut = Counting(**fields, fail_at=6)
    to = tmp_path / "replay"
    with pytest.raises(KeyboardInterrupt):
        replay(bucket.reader, cut, to, since=SINCE)
    assert len(list(to.glob("*.parquet"))) == 1, "a segment is written whole or not at all"
    again = Counting(**fields)
    steps: list[tuple[int, int]] = []
    done = replay(bucket.reader, again, to, since=SINCE, progress=lambda *step: steps.append(step))
    assert (done.segments, done.skipped, done.photos, done.problems) == (2, 1, 8, 0)
    assert len(again.seen) == 8
    assert steps == [(2, 3), (3, 3)]
    rows = [row for path in to.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert sorted(row["request_id"] for row in rows) == sorted(ids)

    record = bucket.reader.find(rows[0]["request_id"])
    assert record
    photo, served = bucket.reader.photo_and_mask(record)
    mask = plain.segment(read_photo(photo).pixels).mask > 0
    packed = {"size": list(mask.shape), "counts": rows[0]["mask_rle"].encode()}
    assert (pycoco.decode(packed) > 0).tolist() == mask.tolist()
    old = np.asarray(Image.open(io.BytesIO(served))) > 0
    assert rows[0]["disagreement"] == pytest.approx(1 - (mask & old).sum() / (mask | old).sum())
    assert rows[0]["served_coverage"] == 0.35

    other = dataclasses.replace(plain, weights_sha256="0" * 64)
    with pytest.raises(ValueError, match="is a replay with weights_sha256"):
        replay(bucket.reader, other, to, since=SINCE)

    for name, value in {**bucket.environment, "STATE_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    arguments = ["--mar", str(weights), "--to", str(to), "--since", SINCE.isoformat(), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["skipped"], said["photos"], len(said["most"])) == (3, 12, 10)


def test_a_summary_weighs_photos_and_counts_what_could_not_be_read() -> None:
    rows = [
        {"request_id": "a", "disagreement": 0.4, "sampling_probability": 1.0, "seconds": 0.1},
        {"request_id": "b", "disagreement": 0.0, "sampling_probability": 0.25, "seconds": 0.1},
        {"request_id": "c", "sampling_probability": 1.0, "problem": "it is damaged"},
    ]
    found = summary_of([pa.Table.from_pylist(rows, schema=SCHEMA)])
    assert (found["photos"], found["problems"]) == (2, 1)
    assert found["mean_disagreement"] == pytest.approx(0.08)
    assert found["share_over_10_percent"] == pytest.approx(0.2)
    assert found["most"][0]["request_id"] == "a"
    assert summary_of([])["mean_disagreement"] is None
