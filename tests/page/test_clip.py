"""A clip on the page: sent, worked on, played, saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.page.driving import until
from tests.video.clips import shown, write_clip

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.mark.slow
def test_a_clip_is_worked_on_played_and_saved(page: Page, astronaut: np.ndarray, tmp_path: Path) -> None:
    small = np.array(Image.fromarray(astronaut).resize((160, 160)))
    options = {"deadline": "realtime", "cpu-used": "8"}
    frames = [np.roll(small, at, axis=1) for at in range(10)]
    path = write_clip(tmp_path / "my clip.webm", frames, codec="libvpx-vp9", codec_options=options)
    page.set_input_files("#file", path)
    until(page, "document.getElementById('clip-player').videoWidth === 160")
    assert page.inner_text("#clip-name") == "my clip.webm"
    with page.expect_download() as waiting:
        page.click("#clip-download")
    assert waiting.value.suggested_filename == "my clip-cutout.webm"
    assert 0.3 < (shown(Path(waiting.value.path()), "rgba")[3][1][..., 3] > 127).mean() < 0.8
    page.check("input[name=clip-view][value=mask]", force=True)  # the server is asked again
    until(page, "document.getElementById('clip-download').download === 'my clip-mask.mp4'")
    page.click("#clip-close")
    assert page.is_hidden("#clip")


def test_what_is_no_clip_is_said_in_the_servers_words(page: Page, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(40))
    page.set_input_files("#file", tmp_path / "broken.mp4")
    page.wait_for_selector("#error:visible")
    assert page.inner_text("#error-text").startswith("broken.mp4: The clip is not in a supported format")
    assert page.is_hidden("#clip")


def test_a_clip_over_64_mb_is_refused_with_the_command_that_does_it(page: Page, tmp_path: Path) -> None:
    large = write_clip(tmp_path / "large.mp4", [np.zeros((32, 32, 3), np.uint8)])
    os.truncate(large, 64_000_001)
    page.set_input_files("#file", large)
    page.wait_for_selector("#error:visible")
    assert "65 MB" in page.inner_text("#error-text")
    assert "humanseg segment clip.mp4 -o out.webm --output cutout" in page.inner_text("#error-text")


def test_a_photo_under_the_name_of_a_clip_is_not_sent(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.mp4", "PNG")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    page.set_input_files("#file", tmp_path / "photo.mp4")
    page.wait_for_selector("#error:visible")
    assert page.inner_text("#error-text").startswith("photo.mp4: This is a photo")
    assert "POST" not in sent
