"""What the server reads, the archive gives out for training, in a process that has decoded nothing yet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import requests

from tests.archive import photos
from tests.archive.test_end_to_end import wait_shipped
from tests.running import Server


@pytest.mark.slow
def test_every_format_that_is_read_is_exported(server: Server, tmp_path: Path) -> None:
    ids = []
    for number, name in enumerate(photos.FORMATS):
        photo = photos.phone_photo(name, seed=number, width=320, height=240)
        headers = {"content-type": "application/octet-stream", "x-archive": "yes"}
        answer = requests.post(server.predictions, data=photo, headers=headers, timeout=60)
        assert (answer.status_code, answer.headers["x-archived"]) == (200, "spooled"), (name, answer.text)
        ids.append(answer.headers["x-request-id"])
    wait_shipped(server)
    (tmp_path / "ids").write_text("\n".join(ids))
    command = [str(Path(sys.executable).parent / "humanseg"), "archive", "export", "--to", str(tmp_path / "out")]
    command += ["--since", "1d", "--ids", str(tmp_path / "ids")]
    environment = {**os.environ, "STATE_DIR": str(server.state_dir), "NO_COLOR": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    files = sorted((tmp_path / "out" / "img").glob("*"))
    assert len(files) == len(photos.FORMATS), result.stdout + result.stderr
    for path in files:
        picture = cv2.imread(str(path))  # as the usual training code reads it
        assert picture is not None, path
        assert sorted(picture.shape[:2]) == [240, 320]
