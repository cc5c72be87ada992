"""The README's shell and Python blocks run as they stand against a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from handler.errors import STATUS, TYPES
from handler.options import FORMATS, OPTION_NAMES
from humanseg.common.effects import OUTPUTS
from humanseg.serve.settings import PORTS
from tests.running import ROOT, Server
from tests.video.clips import disc_frames, write_clip

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader stands: the checkout's weights, photos, a folder of photos, and clips."""
    photo = ROOT / "tests" / "photos" / "astronaut.jpg"
    shutil.copy(photo, tmp_path / "photo.jpg")
    shutil.copy(photo, tmp_path / "beach.jpg")
    for name in ("clip.mp4", "clip.mov"):
        write_clip(tmp_path / name, disc_frames(4), sound="aac")
    (tmp_path / "photos").mkdir()
    shutil.copy(photo, tmp_path / "photos" / "one.jpg")
    (tmp_path / "model_store").symlink_to(ROOT / "model_store")
    return tmp_path


def marks(language: str, text: str) -> list[pytest.MarkDecorator]:
    """The quick run leaves out what starts Python."""
    return [pytest.mark.slow] if language == "python" or "humanseg " in text else []


@pytest.mark.parametrize(("language", "text"), [pytest.param(*block, marks=marks(*block)) for block in BLOCKS])
def test_block_runs(server: Server, folder: Path, language: str, text: str) -> None:
    # The reader's server is on the default ports, ours is not; serve.sh itself is what the fixture has started.
    text = text.replace("http://127.0.0.1:8080", server.url).replace("./serve.sh\n", "")
    script = folder / f"block.{language}"
    script.write_text(text)
    runner = ["bash", "-euo", "pipefail"] if language == "sh" else [str(ROOT / ".venv" / "bin" / "python")]
    result = subprocess.run(
        [*runner, str(script)],
        cwd=folder,
        env={**os.environ, **server.environment, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for made in re.findall(r"(?:-o |save\(\")([\w./]+)", text):
        assert (folder / made).exists(), made


def test_there_are_blocks_to_run() -> None:
    assert [language for language, _ in BLOCKS].count("sh") >= 3
    assert "python" in [language for language, _ in BLOCKS]


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.+)$", README, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def test_every_option_setting_and_error_is_in_the_readme() -> None:
    for name in (*OPTION_NAMES, *OUTPUTS, *FORMATS, *PORTS, *(TYPES.get(error, error.__name__) for error in STATUS)):
        assert f"`{name}`" in README, name
