"""Frames of clips in the archive: taken where settings and sender allow it, each a record that people can use."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests
from PIL import Image

from humanseg.archive.read.reader import Reader
from tests.archive.test_end_to_end import embedded_bucket, wait_shipped
from tests.cli.conftest import COMMAND
from tests.running import Server, start_server
from tests.security.mar import with_setting
from tests.video.clips import shown, write_clip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """3.2 s of the astronaut, 5 frames a second."""
    small = cv2.resize(astronaut, (160, 160), interpolation=cv2.INTER_AREA)
    frames = [np.roll(small, 2 * index, axis=1) for index in range(16)]
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames, rate=5).read_bytes()


@pytest.fixture(scope="module")
def sampling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps frames of clips."""
    folder = tmp_path_factory.mktemp("sampling")
    mar = with_setting(folder / "human_segmentation.mar", "  video: none", "  video: sampled")
    server = start_server(folder / "state", WORKERS="2", MODEL_MAR=str(mar))
    yield server
    server.stop()


def post(server: Server, clip: bytes, **options: str) -> requests.Response:
    answer = requests.post(server.predictions, files={"image": clip}, data=options, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer


def archive(server: Server, *words: str | Path, status: int = 0) -> str:
    environment = {**os.environ, "STATE_DIR": str(server.state_dir), "NO_COLOR": "1", "COLUMNS": "200"}
    completed = subprocess.run(
        [str(COMMAND), "archive", *map(str, words)], env=environment, capture_output=True, text=True, check=False
    )
    assert completed.returncode == status, completed.stderr + completed.stdout
    return completed.stdout


def frames_of(server: Server, clip_id: str) -> list[dict[str, Any]]:
    wait_shipped(server)
    records = [json.loads(line) for line in archive(server, "ls", "--clip", clip_id, "--json").splitlines()]
    return sorted(records, key=lambda record: float(record["clip_seconds"]))


def test_a_frame_a_second_is_a_record_with_the_clips_id_and_its_time(
    sampling: Server, clip: bytes, tmp_path: Path
) -> None:
    answer = post(sampling, clip, output="mask", label="stand 3", archive="yes")
    assert (answer.headers["x-archived"], answer.headers["x-archived-frames"]) == ("spooled", "4")
    clip_id = answer.headers["x-request-id"]
    records = frames_of(sampling, clip_id)
    assert [record["clip_seconds"] for record in records] == [0, 1, 2, 3]
    assert [record["request_id"] for record in records] == [f"{clip_id}-{number}" for number in range(4)]
    assert {record["clip_sha256"] for record in records} == {hashlib.sha256(clip).hexdigest()}
    for record in records:
        assert (record["width"], record["height"], record["photo_format"], record["label"]) == (
            160,
            160,
            "jpeg",
            "stand 3",
        )
        assert (record["consent_asked"], record["sampling_reason"]) == (True, "request")
        assert 0.3 < record["coverage"] < 0.8 and record["confidence"] > 0.5 and record["brightness"] > 0
    # What is kept is the frame, nearly lossless, and the mask that was answered for it.
    (tmp_path / "sent.mp4").write_bytes(clip)
    (tmp_path / "masks.mp4").write_bytes(answer.content)
    reader = Reader(embedded_bucket(sampling).store)
    row = reader.find(records[2]["request_id"])
    assert row
    photo, mask = (np.array(Image.open(io.BytesIO(data))) for data in reader.photo_and_mask(row))
    apart = [np.abs(photo.astype(int) - frame).mean() for _, frame in shown(tmp_path / "sent.mp4")]
    assert (int(np.argmin(apart)), min(apart) < 3) == (10, True), apart
    assert (mask != np.where(shown(tmp_path / "masks.mp4")[10][1][..., 0] > 127, 255, 0)).mean() < 0.005
    assert "3.00 s" in archive(sampling, "ls", "--clip", clip_id)
    archive(sampling, "show", records[1]["request_id"], "--to", tmp_path / "look.png")
    assert (tmp_path / "look.png").stat().st_size > 1000


@pytest.mark.parametrize("consent", ["no", None])
def test_who_declines_is_not_kept_and_neither_is_a_clip_by_default(
    sampling: Server, server: Server, clip: bytes, consent: str | None
) -> None:
    asked, options = (sampling, {"archive": consent}) if consent else (server, {})
    answer = post(asked, clip, **options)
    assert (answer.headers["x-archived"], answer.headers["x-archived-frames"]) == ("declined", "0")
    assert frames_of(asked, answer.headers["x-request-id"]) == []


def test_a_clip_that_is_refused_leaves_nothing(sampling: Server, tmp_path: Path, astronaut: np.ndarray) -> None:
    frames = [astronaut[:96, :96]] * 5
    long = write_clip(tmp_path / "long.mkv", frames, times=[0, 1, 2, 3, 40], rate=1).read_bytes()
    before = archive(sampling, "ls", "--json") if not wait_shipped(sampling) else ""
    assert requests.post(sampling.predictions, data=long, timeout=120).status_code == 413
    wait_shipped(sampling)
    assert archive(sampling, "ls", "--json") == before


def test_an_export_keeps_the_frames_of_a_clip_in_one_part_as_training_does(
    sampling: Server, clip: bytes, tmp_path: Path
) -> None:
    from humanseg.training.samples import Source, find_samples, split

    post(sampling, clip, archive="yes")
    wait_shipped(sampling)
    # By the SHA-256 of what was sent, so that it can be reckoned here.
    place = int.from_bytes(hashlib.sha256(clip).digest()[:8], "big") / 2**64
    for share, wanted in ((place - 1e-6, "train"), (place + 1e-6, "val")):
        archive(sampling, "export", "--to", tmp_path / wanted, "--since", "1d", "--held-out", str(share))
        rows = [json.loads(line) for line in (tmp_path / wanted / "manifest.jsonl").read_text().splitlines()]
        ours = [row for row in rows if row["clip_sha256"] == hashlib.sha256(clip).hexdigest()]
        assert sorted(row["clip_seconds"] for row in ours) == [0, 1, 2, 3]
        assert {row["split"] for row in ours} == {wanted}
        training, held_out = split(find_samples(Source(tmp_path / wanted)), share)
        names = {sample.photo.stem for sample in (held_out if wanted == "val" else training)}
        assert {row["name"] for row in ours} <= names


def test_erasing_the_clip_erases_its_frames(sampling: Server, clip: bytes) -> None:
    clip_id = post(sampling, clip, archive="yes").headers["x-request-id"]
    assert len(frames_of(sampling, clip_id)) == 4
    erased = json.loads(archive(sampling, "erase", clip_id, "--yes", "--json"))
    assert [record["request_id"] for record in erased] == [f"{clip_id}-{number}" for number in range(4)]
    assert frames_of(sampling, clip_id) == []
    archive(sampling, "erase", clip_id, "--yes", status=4)
