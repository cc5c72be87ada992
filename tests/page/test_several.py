"""Several photos at once: a row of thumbnails, and all pictures in a ZIP."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from humanseg.client import Client
from tests.page.driving import choose, paint, saved_file, slide, until, view
from tests.running import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def three(tmp_path: Path, astronaut: np.ndarray) -> list[Path]:
    """Three photos of different shapes; two have the same name but for its ending."""
    paths = [tmp_path / name for name in ("one.png", "Zoë.png", "one.bmp")]
    for path, rows in zip(paths, (512, 400, 300), strict=True):
        Image.fromarray(astronaut[:rows]).save(path)
    return paths


def test_all_pictures_come_as_a_zip(page: Page, server: Server, three: list[Path]) -> None:
    choose(page, *three)
    assert page.inner_text("#title") == "one.png"
    assert page.inner_text("#status") == "3 of 3 photos are done."
    slide(page, 0.3)  # of the first photo only
    for look in ("mask", "cutout"):
        view(page, look)
        name, data = saved_file(page, "#download-all")
        assert name == "photos.zip"
        with zipfile.ZipFile(io.BytesIO(data)) as archive, Client(server.url) as client:
            assert archive.testzip() is None
            assert archive.namelist() == [f"one-{look}.png", f"Zoë-{look}.png", f"one-{look}-2.png"]
            for entry, path, threshold in zip(archive.namelist(), three, (0.3, None, None), strict=True):
                wanted = np.array(client.segment(path, output=look, threshold=threshold).image())
                got = np.array(Image.open(archive.open(entry)).convert("L" if look == "mask" else "RGBA"))
                assert np.array_equal(got, wanted)


def test_thumbnails_choose_and_remove(page: Page, three: list[Path]) -> None:
    choose(page, *three)
    assert page.locator(".thumbnail").count() == 3
    page.focus(".thumbnail >> nth=2")
    page.keyboard.press("Enter")
    page.wait_for_selector(".thumbnail >> nth=2 >> [aria-current=true]", state="detached")
    until(page, "current.file.name === 'one.bmp'")
    assert page.inner_text("#size") == "512 \u00d7 300"
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    page.keyboard.press("Delete")
    until(page, "photos.length === 2 && current.file.name === 'Zoë.png'")
    page.click("#remove")
    until(page, "photos.length === 1 && current.file.name === 'one.png'")
    assert page.is_hidden("#strip")
    assert page.is_hidden("#download-all")


def test_a_file_that_is_no_photo_is_named_and_the_others_are_done(
    page: Page, three: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    choose(page, tmp_path / "notes.txt", *three)
    assert page.inner_text("#error-text").startswith("notes.txt: ")
    assert page.inner_text("#title") == "one.png"
    assert page.locator(".thumbnail").count() == 3
    assert page.inner_text("#status") == "3 of 4 photos are done."


def test_remove_all_begins_anew(page: Page, three: list[Path], photo: Path) -> None:
    choose(page, *three)
    page.click("#remove-all")
    assert page.is_hidden("#result")
    assert page.inner_text("#choose") == "Choose photos"
    assert page.evaluate("document.activeElement.id") == "choose"
    choose(page, photo)
    assert page.inner_text("#title") == "my photo.jpg"
    assert page.is_hidden("#strip")


def test_a_closer_look_asks_about_all_of_them_again_and_keeps_what_was_corrected(
    page: Page, server: Server, three: list[Path]
) -> None:
    choose(page, *three)
    record = page.evaluate("current.facts.id")
    slide(page, 0.4)
    page.click("#brush")
    paint(page, (0.9, 0.1))
    page.click("#best")
    page.click("#best")  # off again, while requests are under way
    page.click("#best")
    page.wait_for_selector("#busy", state="hidden")
    assert page.evaluate("photos.map((photo) => photo.options.quality)") == ["best"] * 3
    assert page.evaluate("[current.threshold, current.strokes.length, current.facts.id]") == [0.4, 1, record]
    view(page, "mask")
    _, data = saved_file(page, "#download-all")
    with zipfile.ZipFile(io.BytesIO(data)) as archive, Client(server.url) as client:
        got = np.array(Image.open(archive.open("Zoë-mask.png")).convert("L"))
        assert np.array_equal(got, np.array(client.segment(three[1], quality="best").image()))
