"""What tests do on the page, and what they read from it."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page


def until(page: Page, expression: str, arg: object = None) -> None:
    """Wait until a JavaScript expression holds.

    Playwright's own `wait_for_function` evaluates text inside the page, which the page's policy forbids.
    """
    end = time.monotonic() + 30
    while not page.evaluate(expression, arg):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def choose(page: Page, *photos: Path) -> None:
    """Choose these files, and wait until all are answered."""
    page.set_input_files("#file", list(photos))
    page.wait_for_selector("#result:visible")
    page.wait_for_selector("#busy", state="hidden")


def view(page: Page, name: str, background: str | None = None) -> None:
    """Show mask, cutout or overlay; a cut-out on a background: none, colour, blur or picture."""
    page.check(f"input[name=view][value={name}]", force=True)
    if background:
        page.check(f"input[name=background][value={background}]", force=True)
    page.wait_for_selector("#busy", state="hidden")


def slide(page: Page, to: float) -> None:
    page.locator("#threshold").fill(str(to))
    until(page, "to => document.getElementById('threshold-value').textContent === to", arg=f"{to:.2f}")


def canvas(page: Page) -> np.ndarray:
    """What the page shows: uint8 [H, W, 4]."""
    url = page.evaluate("document.getElementById('canvas').toDataURL()")
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA"))


def download(page: Page) -> tuple[str, Image.Image]:
    name, data = saved_file(page, "#download")
    return name, Image.open(io.BytesIO(data))


def saved_file(page: Page, button: str) -> tuple[str, bytes]:
    """Name and bytes of what a click on `button` saves."""
    with page.expect_download() as waiting:
        page.click(button)
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def scroll_to_stage(page: Page) -> None:
    """Bring the picture into the window, where the mouse can reach it."""
    page.evaluate("document.getElementById('stage').scrollIntoView({ block: 'center' })")


def paint(page: Page, *points: tuple[float, float]) -> None:
    """One stroke of the brush through these points, as shares of the picture's width and height."""
    scroll_to_stage(page)
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()
