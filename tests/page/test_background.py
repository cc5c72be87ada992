"""Backgrounds: a colour, the photo's own blurred, a picture; on screen, as a file, and on the clipboard."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from humanseg.client import Client
from tests.page.driving import canvas, choose, download, until, view
from tests.running import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def lossless(tmp_path: Path, astronaut: np.ndarray) -> Path:
    """The portrait as a PNG: two JPEG decoders may differ by a level."""
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize(("background", "option"), [("colour", "#12ab34"), ("blur", "blur")])
def test_colour_and_blur_are_the_servers_own(
    page: Page, server: Server, lossless: Path, background: str, option: str
) -> None:
    choose(page, lossless)
    view(page, "cutout", background)
    if background == "colour":
        page.fill("#colour", option)
    with Client(server.url) as client:
        wanted = np.array(client.segment(lossless, output="composite", background=option).image())
    name, saved = download(page)
    assert name == "a-picture.png"
    assert np.array_equal(np.array(saved), wanted)
    difference = np.abs(canvas(page)[..., :3].astype(int) - wanted)
    assert difference.mean() < 1.5  # on screen the soft edge keeps the photo's colours
    sent = "background=blur" if option == "blur" else "'background=#12ab34'"
    assert f"-F output=composite -F {sent}" in page.inner_text("#curl")


def test_a_picture_as_background_covers_the_photo(page: Page, server: Server, lossless: Path, tmp_path: Path) -> None:
    wide = np.zeros((100, 400, 3), np.uint8)
    wide[:, :200] = (200, 10, 10)
    wide[:, 200:] = (10, 10, 200)
    Image.fromarray(wide).save(tmp_path / "beach.png")
    choose(page, lossless)
    view(page, "cutout", "picture")
    page.set_input_files("#backdrop-file", tmp_path / "beach.png")
    until(page, "backdrop !== null")
    assert page.inner_text("#backdrop-name") == "beach.png"
    with Client(server.url) as client:
        cut = np.array(client.segment(lossless, output="cutout").image()).astype(float)
    alpha = cut[..., 3:] / 255
    behind = np.where(np.arange(512)[None, :, None] < 256, (200, 10, 10), (10, 10, 200))  # scaled to cover, centred
    wanted = alpha * cut[..., :3] + (1 - alpha) * behind
    wanted_edge = np.abs(np.arange(512) - 256) < 8  # the two colours mix where they meet
    _, saved = download(page)
    for got in (np.array(saved.convert("RGB")), canvas(page)[..., :3]):
        difference = np.abs(got - wanted)[:, ~wanted_edge]
        assert difference[(alpha[:, ~wanted_edge] == 1)[..., 0]].max() <= 2
        assert difference[(alpha[:, ~wanted_edge] == 0)[..., 0]].max() <= 2
        assert difference.mean() < 1


def test_a_background_that_is_no_picture_is_a_sentence(page: Page, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    choose(page, photo)
    view(page, "cutout", "picture")
    page.set_input_files("#backdrop-file", tmp_path / "notes.txt")
    page.wait_for_selector("#error:visible")
    assert page.inner_text("#error-text").startswith("This browser can't display notes.txt")


def test_the_picture_goes_to_the_clipboard(open_page: Callable[..., Page], photo: Path) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    choose(page, photo)
    page.click("#copy-picture")
    until(page, "document.getElementById('copy-picture').textContent === 'Copied'")
    data = page.evaluate(
        """async () => {
            const [item] = await navigator.clipboard.read();
            const bytes = new Uint8Array(await (await item.getType("image/png")).arrayBuffer());
            return btoa(String.fromCharCode(...bytes));
        }"""
    )
    copied = np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert np.array_equal(copied, canvas(page)[..., :3])
