"""A clip that takes too long for the server: the child is ended, and the refusal has the command that does it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from handler.archiving import PhotoArchive
from handler.clips import ClipRoom, make_clip
from handler.options import parse_options
from handler.request import PhotoRequest
from handler.response import Origin
from humanseg.archive.capture.hook import Archive
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.segmentation.spec import Spec
from humanseg.video.errors import ClipTooLarge
from tests.video.clips import bright, disc_frames, write_clip


def test_a_clip_over_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    qualities: list[str] = []

    def slow(frame: np.ndarray, quality: str) -> np.ndarray:
        qualities.append(quality)
        time.sleep(0.2)
        return bright(frame)

    clip = write_clip(tmp_path / "in.mp4", disc_frames(200)).read_bytes()
    options = parse_options({"output": "cutout", "quality": "best", "background": "#ffffff", "keep": "largest"})
    room = ClipRoom(slow, Spec((96, 96)).as_mapping(), 0.5, max_seconds=30, deadline=3.0)
    archive = PhotoArchive(Archive.start(ArchiveSettings(), tmp_path / "state", upload=False))
    origin = Origin("1", "human_segmentation", "1.0", "0" * 64)
    with pytest.raises(ClipTooLarge) as refused:
        make_clip(PhotoRequest(clip, options), room, origin, archive)
    assert "longer than the server's limit of 3 s" in str(refused.value)
    command = "humanseg segment clip.mp4 -o out.webm --output cutout --quality best --keep largest"
    assert str(refused.value).endswith(command)
    assert set(qualities) <= {"best"}  # none where the machine is so busy that the child has not started
    assert not [child for child in psutil.Process().children() if "humanseg.video.child" in child.cmdline()]
