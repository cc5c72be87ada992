"""The page in a real browser: choose, look, slide, download."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from humanseg.client import Client
from humanseg.serve.page import build_page
from tests.page.driving import canvas, choose, download, slide, until
from tests.running import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.running import Server


def test_a_chosen_photo_shows_its_mask_and_the_facts(page: Page, server: Server, photo: Path) -> None:
    choose(page, photo)
    with Client(server.url) as client:
        wanted = client.segment(photo)
    assert np.array_equal(canvas(page)[..., 0], np.array(wanted.image()))
    assert page.inner_text("#size") == "512 \u00d7 512"
    assert page.inner_text("#version") == "1.0"
    assert page.inner_text("#coverage") == f"{100 * wanted.coverage:.1f} %"
    assert re.fullmatch(r"\d+ ms", page.inner_text("#time"))
    assert page.inner_text("#status").startswith("Found a person")
    assert page.inner_text("#title") == "my photo.jpg"


def test_cutout_and_overlay_are_the_servers_own(
    page: Page, server: Server, tmp_path: Path, astronaut: np.ndarray
) -> None:
    Image.fromarray(astronaut).save(tmp_path / "a.png")  # no JPEG: two decoders may differ by a level
    choose(page, tmp_path / "a.png")
    slide(page, 0.4)
    with Client(server.url) as client:
        for view in ("cutout", "overlay"):
            page.check(f"input[value={view}]", force=True)
            wanted = np.array(client.segment(tmp_path / "a.png", output=view, threshold=0.4).image().convert("RGBA"))
            name, saved = download(page)
            got = np.array(saved.convert("RGBA"))
            assert (name, saved.format) == (f"a-{view}.png", "PNG")
            assert np.abs(got[..., 3].astype(int) - wanted[..., 3]).max() <= 1
            if view == "cutout":  # the server's own bytes, with the person's colours at the edge
                assert np.array_equal(got, wanted)
            opaque = wanted[..., 3] == 255
            assert np.abs(got[opaque].astype(int) - wanted[opaque]).max() <= 2


def test_a_closer_look_asks_for_the_best_quality(page: Page, server: Server, photo: Path) -> None:
    choose(page, photo)
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.check("#best")
    page.wait_for_selector("#busy", state="hidden")
    with Client(server.url) as client:
        wanted = client.segment(photo, quality="best")
        assert not np.array_equal(np.array(wanted.image()), np.array(client.segment(photo).image()))
    assert np.array_equal(canvas(page)[..., 0], np.array(wanted.image()))
    assert "-F quality=best" in page.inner_text("#curl")


def test_the_slider_redraws_without_asking_again(page: Page, photo: Path) -> None:
    choose(page, photo)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    before = page.inner_text("#coverage")
    for view in ("mask", "cutout", "overlay"):
        page.check(f"input[value={view}]", force=True)
        slide(page, 0.05)
        low = canvas(page)
        slide(page, 0.95)
        high = canvas(page)
        assert not np.array_equal(low, high)
    assert page.inner_text("#coverage") != before
    page.click("#reset")
    assert page.inner_text("#coverage") == before
    assert [url for url in asked if not url.startswith("blob:")] == []


def test_the_curl_line_gives_what_is_shown(page: Page, photo: Path, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    choose(page, photo)
    slide(page, 0.3)
    name, saved = download(page)
    line = page.inner_text("#curl")
    subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True)
    assert np.array_equal(Image.open(io.BytesIO((tmp_path / name).read_bytes())), np.array(saved)[..., 0])


def test_a_turned_photo_stands_upright(page: Page, tmp_path: Path, astronaut: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8  # a quarter turn
    Image.fromarray(astronaut[:300]).save(tmp_path / "turned.jpg", exif=exif)
    choose(page, tmp_path / "turned.jpg")
    page.check("input[value=overlay]", force=True)
    slide(page, 0.99)
    upright = np.rot90(astronaut[:300])
    shown = canvas(page)
    assert shown.shape[:2] == upright.shape[:2]
    assert np.abs(shown[..., :3].astype(int) - upright)[:, :20].mean() < 40  # a wrong turn is off by far more


def test_an_error_is_a_sentence_and_the_next_photo_clears_it(page: Page, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    page.set_input_files("#file", tmp_path / "notes.txt")
    page.wait_for_selector("#error:visible")
    sentence = page.inner_text("#error-text")
    assert len(sentence) > 20
    assert "{" not in sentence
    assert page.locator("#error").get_attribute("role") == "alert"
    choose(page, photo)
    assert page.is_hidden("#error")
    page.set_input_files("#file", tmp_path / "notes.txt")
    page.wait_for_selector("#error:visible")
    assert page.inner_text("#error-text") == "notes.txt: " + sentence
    slide(page, 0.7)  # the good photo stays, under its own name
    assert "my photo.jpg" in page.inner_text("#curl")


def test_a_server_that_went_away_is_a_sentence_too(page: Page, photo: Path) -> None:
    page.context.set_offline(True)
    page.set_input_files("#file", photo)
    page.wait_for_selector("#error:visible")
    assert "Could not reach" in page.inner_text("#error-text")


def test_the_webcam_gives_a_photo(page: Page) -> None:
    page.click("#webcam")
    page.wait_for_selector("#snap:enabled")
    page.click("#snap")
    page.wait_for_selector("#result:visible")
    assert page.inner_text("#title") == "webcam.jpg"
    assert page.is_hidden("#camera")
    assert page.evaluate("stream") is None  # the camera's light is off


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_photo_can_be_dropped_or_pasted(page: Page, astronaut_jpeg: bytes, way: str) -> None:
    page.evaluate(
        """([way, data]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            transfer.items.add(new File([bytes], "given.jpg", { type: "image/jpeg" }));
            const event = way === "drop"
                ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true });
            document.body.dispatchEvent(event);
        }""",
        [way, base64.b64encode(astronaut_jpeg).decode()],
    )
    page.wait_for_selector("#result:visible")
    assert page.inner_text("#title") == "given.jpg"


def test_a_photo_that_the_browser_cannot_show_is_drawn_by_the_server(
    page: Page, server: Server, tmp_path: Path, astronaut: np.ndarray
) -> None:
    import pillow_heif

    path = tmp_path / "phone.heic"
    pillow_heif.from_pillow(Image.fromarray(astronaut)).save(path, quality=90)
    choose(page, path)
    assert "server draws" in page.inner_text("#note")
    page.check("input[value=overlay]", force=True)
    page.wait_for_selector("#stage[aria-busy=false]")
    with Client(server.url) as client:
        wanted = np.array(client.segment(path, output="overlay").image())
    until(page, "drawn > 1")
    page.wait_for_selector("#busy", state="hidden")
    assert np.abs(canvas(page)[..., :3].astype(int) - wanted).mean() < 2
    name, saved = download(page)
    assert (name, saved.size) == ("phone-overlay.png", (512, 512))


def test_the_keyboard_is_enough(page: Page, photo: Path) -> None:
    with page.expect_file_chooser() as chooser:  # begun early: the browser is told of it while Tab is pressed
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "choose"
        page.keyboard.press("Enter")
    chooser.value.set_files(photo)
    page.wait_for_selector("#result:visible")
    page.focus("input[value=mask]")
    page.keyboard.press("ArrowRight")
    assert page.is_checked("input[value=cutout]")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "threshold"
    before = page.inner_text("#threshold-value")
    page.keyboard.press("ArrowRight")
    until(page, "b => document.getElementById('threshold-value').textContent !== b", arg=before)


def test_consent_is_sent(page: Page, photo: Path) -> None:
    page.check("#private")
    choose(page, photo)
    assert page.inner_text("#archived") == "no, as asked"
    assert "-F archive=no" in page.inner_text("#curl")


def test_nothing_comes_from_elsewhere(open_page: Callable[..., Page], server: Server) -> None:
    source = build_page(ROOT / "handler" / "page")
    assert set(re.findall(r"https?://[^\s'\"<]+", source)) <= {"http://www.w3.org/2000/svg"}
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_load_state("networkidle")
    assert [url for url in asked if not url.startswith("data:")] == [server.predictions]


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_sticks_out_on_a_narrow_screen(open_page: Callable[..., Page], photo: Path, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    choose(page, photo)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


def test_dark_and_light_follow_the_system_and_can_be_read(open_page: Callable[..., Page]) -> None:
    def contrast(page: Page, selector: str) -> float:
        colours = page.evaluate(
            """(selector) => [getComputedStyle(document.querySelector(selector)).color,
                              getComputedStyle(document.querySelector('.picker')).backgroundColor]""",
            selector,
        )
        light = []
        for colour in colours:
            levels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
            linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels]
            light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
        return (max(light) + 0.05) / (min(light) + 0.05)

    grounds = set()
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert min(contrast(page, selector) for selector in ("#title", ".hint", ".check", "#copy")) >= 4.5  # WCAG AA
    assert len(grounds) == 2


@pytest.mark.slow
def test_a_server_with_keys_is_asked_with_one(
    open_page: Callable[..., Page], make_server: Callable[..., Server], photo: Path, tmp_path: Path
) -> None:
    import hashlib

    (tmp_path / "keys").write_text(hashlib.sha256(b"open sesame").hexdigest() + "\n")
    guarded = make_server(API_KEYS_FILE=str(tmp_path / "keys"))
    page = open_page(guarded.predictions)
    page.set_input_files("#file", photo)
    page.wait_for_selector("#key-form:visible")
    assert page.is_visible("#error")
    page.fill("#key", "open sesame")
    page.keyboard.press("Enter")
    page.wait_for_selector("#result:visible")
    assert page.is_hidden("#key-form")
    assert page.is_hidden("#error")
    assert '-H "Authorization: Bearer $KEY"' in page.inner_text("#curl")
