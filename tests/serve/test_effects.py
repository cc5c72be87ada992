"""Every option changes the answer, or is refused: all pairs of output and option, of photos and of clips."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from handler.options import OPTION_NAMES
from humanseg.common.effects import EFFECTS, OUTPUTS
from tests.running import Server, encoded
from tests.video.clips import write_clip

# A value of each option that is not its default. What `label` changes is the archived record (tests/archive).
VALUES = {
    "format": "webp",
    "threshold": "0.9",
    "background": "#00ff00",
    "quality": "best",
    "keep": "largest",
    "crop": "person",
    "archive": "no",
    "progress": "0123456789abcdef",
}
CLIP_VALUES = {**VALUES, "format": "mov"}
DEFAULTS = {"format": "png", "background": "#ffffff", "quality": "fast", "keep": "main", "crop": "none"}
TIMES = ("server-timing", "x-request-id", "date", "connection", "content-length")


def answer(server: Server, photo: bytes, fields: dict[str, str]) -> tuple[int, Any]:
    """Status, and what of the answer can differ: its bytes and headers, but for time and id; or the refusal."""
    got = requests.post(server.predictions, files={"image": photo}, data=fields, timeout=120)
    if got.status_code != 200:
        return got.status_code, got.json()
    headers = {name.lower(): value for name, value in got.headers.items() if name.lower() not in TIMES}
    if got.headers["content-type"] == "application/json":
        document = got.json()
        del document["request_id"], document["milliseconds"]
        return 200, (headers, document)
    return 200, (headers, hashlib.sha256(got.content).hexdigest())


@pytest.fixture(scope="module")
def two_people(astronaut: np.ndarray) -> bytes:
    """One person twice, large and small, apart from each other."""
    canvas = np.full((400, 900, 3), 200, np.uint8)
    canvas[:, :400] = np.array(Image.fromarray(astronaut).resize((400, 400)))
    canvas[140:400, 600:860] = np.array(Image.fromarray(astronaut).resize((260, 260)))
    return encoded(canvas, "PNG")


@pytest.fixture(scope="module")
def clip(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two frames with two people."""
    canvas = np.full((120, 260, 3), 200, np.uint8)
    canvas[:, :120] = np.array(Image.fromarray(astronaut).resize((120, 120)))
    canvas[40:120, 170:250] = np.array(Image.fromarray(astronaut).resize((80, 80)))
    path: Path = write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [canvas, canvas])
    return path.read_bytes()


def test_the_table_has_every_option() -> None:
    assert set(EFFECTS) == set(OPTION_NAMES) - {"output"}
    assert set(VALUES) | {"label"} == set(EFFECTS)


@pytest.mark.parametrize("output", OUTPUTS)
def test_of_a_photo_each_option_changes_the_answer_or_is_refused(
    server: Server, two_people: bytes, output: str
) -> None:
    _, plain = answer(server, two_people, {"output": output})
    for name, value in VALUES.items():
        status, other = answer(server, two_people, {"output": output, name: value})
        if output in EFFECTS[name].photo:
            assert status == 200, other
            assert other != plain, f"{name}={value} changes nothing with output={output}"
        else:
            assert (status, other["type"]) == (400, "BadOption")
            assert other["message"].startswith(f"{name}={value} ")
            assert f"output={output}" in other["message"] or "is for clips" in other["message"]
    status, _ = answer(server, two_people, {"output": output, **DEFAULTS})  # written out, they ask for nothing
    assert status == 200


@pytest.mark.slow
@pytest.mark.parametrize("output", OUTPUTS)
def test_of_a_clip_each_option_changes_the_answer_or_is_refused(server: Server, clip: bytes, output: str) -> None:
    _, plain = answer(server, clip, {"output": output})
    for name, value in CLIP_VALUES.items():
        if name in ("progress", "archive", "label"):  # seen by another request, or in the archive (test_clips.py)
            continue
        status, other = answer(server, clip, {"output": output, name: value})
        if output in EFFECTS[name].clip:
            assert status == 200, other
            assert other != plain, f"{name}={value} changes nothing with output={output}"
        else:
            assert (status, other["type"]) == (400, "BadOption")
            assert other["message"].startswith(f"{name}={value} ")


@pytest.mark.slow
def test_defaults_of_a_clip_ask_for_nothing(server: Server, clip: bytes) -> None:
    status, _ = answer(server, clip, {**DEFAULTS, "format": "mp4", "archive": "no"})
    assert status == 200


def test_the_refusal_names_option_reason_and_the_output_that_takes_it(server: Server, two_people: bytes) -> None:
    _, refusal = answer(server, two_people, {"output": "cutout", "background": "blur"})
    assert refusal["message"] == (
        "background=blur has no effect with output=cutout: only a composite has a background. "
        "Use output=composite, or leave it out."
    )


@pytest.mark.parametrize("headers", [{"x-format": "webp", "accept": "application/json"}, {"x-progress": "0" * 16}])
def test_headers_are_refused_alike(server: Server, two_people: bytes, headers: dict[str, str]) -> None:
    got = requests.post(server.predictions, data=two_people, headers=headers, timeout=60)
    assert (got.status_code, got.json()["type"]) == (400, "BadOption")
