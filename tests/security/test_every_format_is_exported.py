"""What the server reads, the archive gives out for training, in a process that has decoded nothing yet."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import requests

from tests.archive import photos
from tests.running import Server


@pytest.mark.slow
def test_every_format_that_is_read_is_exported(make_server: Callable[..., Server], tmp_path: Path) -> None:
    server = make_server()
    for number, name in enumerate(photos.FORMATS):
        photo = photos.phone_photo(name, seed=number, width=320, height=240)
        headers = {"content-type": "application/octet-stream", "x-archive": "yes"}
        answer = requests.post(server.predictions, data=photo, headers=headers, timeout=60)
        assert (answer.status_code, answer.headers["x-archived"]) == (200, "spooled"), (name, answer.text)
    command = [str(Path(sys.executable).parent / "humanseg"), "archive", "export", "--to", str(tmp_path / "out")]
    environment = {**os.environ, "STATE_DIR": str(server.state_dir), "NO_COLOR": "1"}
    found: list[Path] = []
    end = time.monotonic() + 120
    while len(found) < len(photos.FORMATS) and time.monotonic() < end:  # records are shipped a little later
        done = subprocess.run([*command, "--since", "1d"], env=environment, capture_output=True, text=True)
        found = sorted((tmp_path / "out" / "img").glob("*"))
        time.sleep(0.5)
    assert len(found) == len(photos.FORMATS), done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    for path in found:
        picture = cv2.imread(str(path))  # as the usual training code reads it
        assert picture is not None, path
        assert sorted(picture.shape[:2]) == [240, 320]
