"""Looking closely: before and after, and zoom by wheel, pinch, buttons and keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tests.page.driving import choose, scroll_to_stage, until, view
from tests.running import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

import io


def seen(page: Page) -> np.ndarray:
    """The canvas with all that lies on it, as a person sees it: uint8 [H, W, 3]."""
    return np.array(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB"))


def scale(page: Page) -> float:
    return float(page.evaluate("zoom.scale"))


def place(page: Page) -> tuple[float, float, float, float]:
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    return box["x"], box["y"], box["width"], box["height"]


def test_the_divider_shows_the_photo_before_on_its_left(page: Page, photo: Path, astronaut: np.ndarray) -> None:
    choose(page, photo)  # shown is the mask: black and white
    page.click("#compare")
    page.evaluate("for (const id of ['line', 'divider']) document.getElementById(id).style.opacity = 0")
    page.evaluate("document.querySelectorAll('.tag').forEach((tag) => { tag.hidden = true; })")
    left, _, width, _ = place(page)
    stage = page.locator("#stage").bounding_box()
    assert stage is not None

    def coloured() -> np.ndarray:
        """Whether the columns of the picture, 0..1 of its width in 20 steps, show the photo."""
        pixels = seen(page).astype(int)
        columns = [round(left - stage["x"] + share * width) for share in (np.arange(20) + 0.5) / 20]
        return np.array([(np.ptp(pixels[60:-60, at], axis=-1) > 20).any() for at in columns])

    assert list(coloured()) == [True] * 10 + [False] * 10
    page.focus("#divider")
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    assert list(coloured()) == [True] * 14 + [False] * 6
    page.click("#compare")
    assert not coloured().any()


def test_the_divider_can_be_dragged(page: Page, photo: Path) -> None:
    choose(page, photo)
    page.click("#compare")
    scroll_to_stage(page)
    left, top, width, height = place(page)
    page.mouse.move(left + width / 2, top + height / 2)
    page.mouse.down()
    page.mouse.move(left + width / 4, top + height / 2, steps=5)
    page.mouse.up()
    assert abs(float(page.input_value("#divider")) - 25) < 2
    assert scale(page) == 1
    page.mouse.move(left + width * 0.75, top + height * 0.75)  # off the handle: zoom still works
    page.mouse.wheel(0, -300)
    until(page, "zoom.scale > 1.5")


def test_the_wheel_zooms_around_the_pointer_and_scrolls_when_all_is_seen(page: Page, photo: Path) -> None:
    choose(page, photo)
    scroll_to_stage(page)
    left, top, width, height = place(page)
    page.mouse.move(left + 0.45 * width, top + height / 4)
    page.mouse.wheel(0, -200)
    until(page, "zoom.scale > 1.3")
    x, y, wide, tall = place(page)
    assert wide > 1.3 * width
    assert abs(x + 0.45 * wide - (left + 0.45 * width)) < 2  # the point under the pointer stays there
    assert abs(y + tall / 4 - (top + height / 4)) < 2
    page.mouse.wheel(0, 2000)
    until(page, "zoom.scale === 1")
    scrolled = page.evaluate("scrollY")
    page.mouse.wheel(0, 200)
    until(page, "before => scrollY > before", scrolled)


def test_buttons_and_keys_zoom_and_move(page: Page, photo: Path) -> None:
    choose(page, photo)
    page.click("#zoom-in")
    assert page.inner_text("#zoom-fit") == "130 %"
    page.click("#zoom-out")
    assert page.inner_text("#zoom-fit") == "Fit"
    page.focus("#stage")
    for _ in range(4):
        page.keyboard.press("+")
    assert scale(page) > 2
    before = place(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    after = place(page)
    assert (round(before[0] - after[0]), round(before[1] - after[1])) == (40, 40)
    for _ in range(60):
        page.keyboard.press("ArrowRight")
    stage = page.locator("#stage").bounding_box()
    assert stage is not None
    left, _, width, _ = place(page)
    assert abs(left + width - (stage["x"] + stage["width"])) < 2  # no gap at the edge
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
    assert abs(place(page)[0] - stage["x"]) < 2
    for _ in range(30):
        page.keyboard.press("+")
    assert scale(page) >= 4
    page.keyboard.press("0")
    assert scale(page) == 1


def test_a_zoomed_picture_is_moved_by_dragging(page: Page, photo: Path) -> None:
    choose(page, photo)
    view(page, "overlay")
    page.click("#zoom-in")
    page.click("#zoom-in")
    scroll_to_stage(page)
    before = place(page)
    box = page.locator("#stage").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 170, box["y"] + 180, steps=3)
    page.mouse.up()
    after = place(page)
    assert (round(after[0] - before[0]), round(after[1] - before[1])) == (-30, -20)


def test_two_fingers_zoom(open_page: Callable[..., Page], server: Server, photo: Path) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True)
    choose(page, photo)
    scroll_to_stage(page)
    x, y, width, height = place(page)
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, *shares: float) -> None:
        points = [{"x": x + share * width, "y": y + height / 2, "id": i} for i, share in enumerate(shares)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 0.4)
    fingers("touchStart", 0.4, 0.6)
    for apart in (0.15, 0.2, 0.25, 0.3):
        fingers("touchMove", 0.5 - apart, 0.5 + apart)
    fingers("touchEnd")
    assert abs(scale(page) - 3) < 0.2
    assert page.evaluate("visualViewport.scale") == 1  # the page itself was not zoomed
