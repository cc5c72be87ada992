"""From what users sent to a released model, in the five commands of the README, on a real server and its store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests

from humanseg.archive.read.export_formats import brush_rle
from humanseg.common.html import embedded
from humanseg.training.gate import NAME
from tests.archive.test_end_to_end import embedded_bucket, wait_shipped
from tests.running import ROOT, Server, start_server
from tests.training.conftest import draw

pytestmark = pytest.mark.slow
PHOTOS, CHOSEN = 84, 76
# The shipped network takes drawn figures for nobody; 24 steps teach it better.
RECIPE = """
{augment: none, scenes: 0, empty: 0, relight: 0, ema_decay: 0.9, warmup: 0.1, precision: 32-true, threads: 1,
workers: 0, size: 96, samples: 96, batch_size: 4, learning_rate: 1.0e-3, hold_out: 0.5}
"""


@pytest.fixture(scope="module")
def loop_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own: a release changes it."""
    running = start_server(tmp_path_factory.mktemp("loop-server"), WORKERS="1")
    yield running
    running.stop()


def humanseg(server: Server, *arguments: object, status: int = 0) -> str:
    """Runs a command as a user of this server does; what it said on both streams."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ARCHIVE_", "AWS_"))}
    result = subprocess.run(
        [sys.executable, "-m", "humanseg.cli.main", *map(str, arguments)],
        cwd=ROOT,
        env={**environment, "STATE_DIR": str(server.state_dir), "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result.stdout + result.stderr


def send(server: Server) -> dict[str, np.ndarray]:
    """Photos of drawn figures into the archive; the true mask of each request."""
    random = np.random.default_rng(0)
    truth = {}
    for _ in range(PHOTOS):
        pixels, mask = draw(random, 160, 120)
        _, photo = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        headers = {"Content-Type": "image/jpeg", "x-archive": "yes"}
        answer = requests.post(server.predictions, data=photo.tobytes(), headers=headers, timeout=60)
        assert answer.headers["x-archived"] == "spooled"
        truth[answer.headers["x-request-id"]] = mask
    wait_shipped(server)
    return truth


def label(folder: Path, truth: dict[str, np.ndarray]) -> Path:
    """What Label Studio would save once a person has drawn the true mask of every task."""
    tasks: list[dict[str, Any]] = json.loads((folder / "tasks.json").read_text())
    for number, task in enumerate(tasks, 1):
        mask = truth[task["data"]["request_id"]]
        region = {
            **{"type": "brushlabels", "from_name": "mask", "to_name": "image", "image_rotation": 0},
            **{"original_width": mask.shape[1], "original_height": mask.shape[0]},
            "value": {"format": "rle", "rle": brush_rle(mask > 0), "brushlabels": ["person"]},
        }
        task |= {"id": number, "annotations": [{"id": number, "completed_by": 1, "result": [region]}]}
    path = folder.with_suffix(".json")
    path.write_text(json.dumps(tasks))
    return path


def test_five_commands_make_a_released_model_of_what_users_sent(loop_server: Server, tmp_path: Path) -> None:
    server = loop_server
    truth = send(server)
    old = ROOT / "model_store" / "human_segmentation.mar"
    to, run, report = tmp_path / "to-label", tmp_path / "run", tmp_path / "comparison.html"

    # 1. choose
    output = humanseg(
        server, "archive", "export", "--to", to, "--since", "1d", "--choose", CHOSEN, "--format", "label-studio"
    )
    assert f"chose {CHOSEN} of {PHOTOS} photos" in output
    rows = [json.loads(line) for line in (to / "manifest.jsonl").read_text().splitlines()]
    assert len(rows) == CHOSEN
    assert {row["chosen"]["why"] for row in rows} >= {"new", "doubt", "random"}
    assert all(0 < row["chosen"]["probability"] <= 1 for row in rows)
    assert f"import-labels {to}" in output, "each command says the next one"

    # 2. label
    output = humanseg(server, "archive", "import-labels", label(to, truth), "--by", "ada")
    assert f"{CHOSEN} corrected masks uploaded" in output
    assert "humanseg train --archive" in output

    # 3. train, in few steps
    start, recipe = ROOT / "model_store" / "human_segmentation.safetensors", tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    output = humanseg(server, "train", "--archive", "1d", "--init", start, "--recipe", recipe, "--out", run)
    measured = ["--data", run / "archive", "--held-out", 0.5]
    assert f"Next: humanseg compare OLD {run / 'weights.safetensors'} {' '.join(map(str, measured))}" in output
    trained = [json.loads(line) for line in (run / "archive" / "manifest.jsonl").read_text().splitlines()]
    assert len(trained) == CHOSEN
    assert {row["mask_source"] for row in trained} == {"corrected"}

    # 4. compare, on photos that it was not trained on; only the time is not asked for: others use this machine
    new = tmp_path / "new.safetensors"
    humanseg(server, "export", run, "--out", new, "--size", 384)
    output = humanseg(server, "compare", old, new, *measured, "--report", report, "--slower", 5)
    assert "The new model is better." in output
    checks = {check["name"]: check for check in embedded(report.read_text(), NAME)["checks"]}
    assert 30 <= checks["mean IoU"]["photos"] < CHOSEN
    assert checks["mean IoU"]["low"] > 0.3, "it has really learned"
    assert f"Next: humanseg release --weights {new} --version V --gate {report}" in output

    # 5. release, through the gate
    addresses = f"{server.url},{server.management_url},{server.metrics_url.removesuffix('/metrics')}"
    release = ["release", "--weights", new, "--version", "2.0", "--server", addresses, "--watch", 1, "--drain", 1]
    wrong = tmp_path / "wrong.html"
    wrong.write_text(re.sub(r'("new": \{[^}]*"weights_sha256": ")[0-9a-f]{8}', r"\g<1>00000000", report.read_text()))
    assert "is about other weights" in humanseg(server, *release, "--gate", wrong, status=1)
    output = humanseg(server, *release, "--gate", report)
    assert "human_segmentation 2.0 is released" in output
    photo, true = (to / "img" / rows[0]["photo"]).read_bytes(), truth[rows[0]["request_ids"][0]] > 0
    answer = requests.post(server.predictions, data=photo, timeout=60)
    assert answer.headers["x-model-version"] == "2.0"
    served = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_GRAYSCALE) > 0
    assert (served & true).sum() > 0.5 * (served | true).sum(), "users get the better masks"
    kept = list(server.state_dir.rglob("*-2.0.comparison.html"))
    assert [path.read_text() == report.read_text() for path in kept] == [True], "the report stays with the release"

    # An erased photo is in no later export, and the report that shows it is named.
    gone = trained[0]["request_ids"][0]
    output = humanseg(server, "archive", "erase", gone, "--yes")
    assert str(report) in output
    assert str(kept[0]) in output, "the copy that the release keeps shows it, too"
    assert str(run / "archive") in output
    humanseg(server, "archive", "export", "--to", run / "archive", "--since", "1d", "--corrected-only")
    later = [json.loads(line) for line in (run / "archive" / "manifest.jsonl").read_text().splitlines()]
    assert {row["name"] for row in trained} - {row["name"] for row in later} == {trained[0]["name"]}
    assert embedded_bucket(server).reader.find(gone) is None
