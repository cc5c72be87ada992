"""A real Label Studio server: tasks in and annotations out through its API, and its own exports read back.

    python -m venv /tmp/ls && /tmp/ls/bin/pip install label-studio==1.23.2
    LABEL_STUDIO=/tmp/ls/bin/label-studio pytest tests/labels/test_label_studio_live.py

It brings Django and another OpenCV, takes minutes to install and one to start: so it is asked for by name.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from humanseg.common.ports import free_ports
from humanseg.labels.drawn import Options, Reading
from humanseg.labels.home import read_labels_file
from tests.labels.test_label_studio import brush

TOKEN = "0123456789abcdef0123456789abcdef01234567"
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image">'
    '<Label value="person"/></BrushLabels></View>'
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running server."""
    executable = os.environ.get("LABEL_STUDIO")
    if not executable:
        pytest.skip("LABEL_STUDIO names no label-studio executable; the module says how to install one")
    (port,) = free_ports(1)
    folder = tmp_path_factory.mktemp("label-studio")
    account = ["--username", "ada@example.org", "--password", "not-a-secret", "--user-token", TOKEN]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [executable, "start", "--no-browser", "--port", str(port), *account],
            env={
                **os.environ,
                "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
                "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 300
    while time.monotonic() < end and server.poll() is None:
        try:
            if requests.get(f"{address}/health", timeout=5).ok:
                break
        except requests.RequestException:
            time.sleep(0.5)
    else:
        pytest.fail((folder / "log").read_text()[-2000:])
    yield address
    server.terminate()
    server.wait(30)


def test_what_people_draw_in_label_studio_comes_home(label_studio: str, ring: np.ndarray, tmp_path: Path) -> None:
    def post(path: str, content: object) -> dict[str, object]:
        answer = requests.post(f"{label_studio}{path}", headers=headers, json=content, timeout=60)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def pull(kind: str, suffix: str) -> Path:
        answer = requests.get(
            f"{label_studio}/api/projects/{project}/export?exportType={kind}&download_all_tasks=true",
            headers=headers,
            timeout=60,
        )
        assert answer.ok, answer.text
        path = tmp_path / f"{kind}{suffix}"
        path.write_bytes(answer.content)
        return path

    def masks(reading: Reading) -> dict[str | None, np.ndarray]:
        assert reading.refused == []
        return {mask.photo.request_id or mask.photo.stem: mask.mask for mask in reading.masks}

    headers = {"Authorization": f"Token {TOKEN}"}
    project = post("/api/projects/", {"title": "people", "label_config": CONFIG})["id"]
    guess = brush(np.full_like(ring, 255), ["person"])
    tasks = [
        {
            "data": {"image": f"/data/local-files/?d=img/{number}.jpg", "request_id": f"request-{number}"},
            "predictions": [{"result": [guess]}],
        }
        for number in range(4)
    ]
    ids = post(f"/api/projects/{project}/import?return_task_ids=true", tasks)["task_ids"]
    assert isinstance(ids, list)
    drawn, nobody, cancelled, _ = ids
    post(f"/api/tasks/{drawn}/annotations/", {"result": [brush(ring, ["person"])]})
    post(f"/api/tasks/{nobody}/annotations/", {"result": []})
    post(f"/api/tasks/{cancelled}/annotations/", {"result": [guess], "was_cancelled": True})

    full = read_labels_file(pull("JSON", ".json"))
    assert {name: (mask == ring).all() for name, mask in masks(full).items()} == {"request-0": True}
    assert sorted(photo.reason for photo in full.skipped) == ["cancelled", "empty"]
    empty = read_labels_file(tmp_path / "JSON.json", Options(empty_is_nobody=True))
    assert masks(empty)["request-1"] is None
    flat = masks(read_labels_file(pull("JSON_MIN", ".json"), Options(empty_is_nobody=True)))
    assert sorted(map(str, flat)) == ["request-0", "request-1"]
    assert (flat["request-0"] == ring).all()
    outline = masks(read_labels_file(pull("BRUSH_TO_COCO", ".zip")))["0"]
    assert np.count_nonzero(outline[ring > 0]) > 0.9 * np.count_nonzero(ring), "Label Studio's COCO fills holes"
    layer = pull("BRUSH_TO_PNG", ".png").rename(
        tmp_path / f"task-{drawn}-annotation-1-by-ada@example.org-mask-person-0.png"
    )
    (tmp_path / "JSON_MIN.json").unlink()
    assert (masks(read_labels_file(tmp_path))["request-0"] == ring).all()
    assert layer.is_file()
