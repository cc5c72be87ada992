"""The brush: add, erase, undo, by pointer and by keyboard, and the corrected mask that comes out of it."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tests.cli.conftest import COMMAND
from tests.page.driving import canvas, choose, download, paint, saved_file, scroll_to_stage, until, view

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.running import Server


def mask(page: Page) -> np.ndarray:
    """The mask on show, bool [H, W]."""
    view(page, "mask")
    return canvas(page)[..., 0] > 0


def test_strokes_add_and_erase_and_can_be_undone(page: Page, photo: Path) -> None:
    choose(page, photo)
    original = mask(page)
    page.click("#brush")
    assert page.is_checked("input[value=overlay]")  # on a mask nobody sees what is missing
    page.fill("#brush-size", "40")
    paint(page, (0.9, 0.1), (0.9, 0.3))
    page.check("input[name=brush][value=erase]", force=True)
    paint(page, (0.4, 0.6), (0.5, 0.6))
    painted = mask(page)
    assert painted[100, 460]
    assert not original[100, 460]
    assert not painted[307, 230]
    assert original[307, 230]
    changed = painted != original
    assert 0.01 < changed.mean() < 0.06
    share = page.inner_text("#coverage")
    assert share == f"{100 * painted.mean():.1f} %"
    page.click("#undo")
    assert mask(page)[307, 230]
    page.keyboard.press("Control+z")
    assert np.array_equal(mask(page), original)
    assert page.is_disabled("#undo")


def test_zoomed_in_the_brush_is_finer_and_paints_where_it_points(page: Page, photo: Path) -> None:
    choose(page, photo)
    view(page, "overlay")
    page.focus("#stage")
    for _ in range(6):
        page.keyboard.press("+")
    page.click("#brush")
    page.fill("#brush-size", "40")
    scroll_to_stage(page)
    box = page.evaluate(
        "(() => { const b = document.getElementById('stage').getBoundingClientRect();"
        " return [b.left + b.width / 2, b.top + b.height / 2]; })()"
    )
    page.check("input[name=brush][value=erase]", force=True)
    page.mouse.click(*box)
    erased = page.evaluate("[current.strokes[0].points[0], current.strokes[0].radius]")
    assert np.allclose(erased[0], [256, 256], atol=2)  # the middle of the photo lies in the middle of the stage
    assert not mask(page)[256, 256]
    assert erased[1] < 10  # half of 40 screen pixels, at more than twice the photo's size


def test_the_corrected_mask_is_what_the_archive_imports(page: Page, photo: Path) -> None:
    choose(page, photo)
    page.click("#brush")
    assert page.is_disabled("#save-correction")
    paint(page, (0.9, 0.1), (0.95, 0.5), (0.8, 0.6))
    name, data = saved_file(page, "#save-correction")
    assert re.fullmatch(r"[0-9a-f-]{36}\.png", name)  # the id of the record
    image = Image.open(io.BytesIO(data)).convert("L")
    assert (image.format or "PNG", image.size) == ("PNG", (512, 512))
    pixels = np.array(image)
    assert set(np.unique(pixels)) == {0, 255}
    shown = mask(page)
    assert np.array_equal(pixels > 0, shown)
    assert "import-labels" in page.inner_text("#label-help")


def test_the_mask_of_a_photo_that_was_not_kept_has_its_own_name(page: Page, photo: Path) -> None:
    page.check("#private")
    choose(page, photo)
    page.click("#brush")
    paint(page, (0.9, 0.1))
    name, _ = saved_file(page, "#save-correction")
    assert name == "my photo-corrected-mask.png"
    assert "did not archive" in page.inner_text("#label-help")


def test_the_keyboard_paints(page: Page, photo: Path) -> None:
    choose(page, photo)
    original = mask(page)
    page.focus("#brush")
    page.keyboard.press("Enter")
    page.focus("#stage")
    page.keyboard.press("x")
    assert page.is_checked("input[name=brush][value=erase]")
    page.keyboard.press("Space")  # the brush begins in the middle
    dot = mask(page)
    assert not dot[256, 256]
    page.focus("#stage")
    size = int(page.input_value("#brush-size"))
    page.keyboard.press("]")
    assert int(page.input_value("#brush-size")) > size
    for _ in range(4):
        page.keyboard.press("Shift+ArrowDown")
    line = mask(page)
    assert (original & ~line).sum() > (original & ~dot).sum()
    page.focus("#stage")
    for _ in range(5):
        page.keyboard.press("Control+z")
    assert np.array_equal(mask(page), original)


def test_cutouts_and_backgrounds_follow_the_correction(page: Page, tmp_path: Path, astronaut: np.ndarray) -> None:
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    choose(page, tmp_path / "a.png")
    page.click("#brush")
    page.fill("#brush-size", "60")
    paint(page, (0.9, 0.15), (0.9, 0.25))
    view(page, "cutout", "none")
    name, saved = download(page)
    pixels = np.array(saved)
    assert (name, saved.mode) == ("a-cutout.png", "RGBA")
    assert tuple(pixels[102, 460]) == (*astronaut[102, 460], 255)  # added: the photo's own colours
    assert pixels[20, 20, 3] == 0
    view(page, "cutout", "colour")
    page.fill("#colour", "#00ff00")
    _, saved = download(page)
    pixels = np.array(saved.convert("RGB"))
    assert tuple(pixels[102, 460]) == tuple(astronaut[102, 460])
    assert tuple(pixels[20, 20]) == (0, 255, 0)


def test_each_photo_keeps_its_own_correction(page: Page, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(photo.read_bytes())
    choose(page, photo, tmp_path / "b.jpg")
    original = mask(page)
    page.click("#brush")
    paint(page, (0.9, 0.1), (0.9, 0.3))
    painted = mask(page)
    page.click("[aria-label='b.jpg, 2 of 2']")
    page.wait_for_selector("[aria-label='b.jpg, 2 of 2'][aria-current=true]")
    assert np.array_equal(mask(page), original)
    page.click("[aria-label='my photo.jpg, 1 of 2']")
    page.wait_for_selector("[aria-label='my photo.jpg, 1 of 2'][aria-current=true]")
    assert np.array_equal(mask(page), painted)


def test_a_corrected_mask_is_sent_with_consent_accepted_and_exported(
    page: Page, photo: Path, server: Server, tmp_path: Path
) -> None:
    """Brush, consent, server, embedded store, a person's yes, and the export that training takes."""
    choose(page, photo)
    page.click("#brush")
    paint(page, (0.9, 0.1), (0.95, 0.5), (0.8, 0.6))
    assert page.is_disabled("#send-correction")  # without consent
    page.check("#consent")
    page.click("#send-correction")
    until(page, "document.getElementById('send-correction').textContent === 'Sent'")
    assert page.is_disabled("#send-correction")
    of = page.evaluate("current.facts.id")
    painted = mask(page)
    paint(page, (0.1, 0.9))
    assert page.is_enabled("#send-correction")  # it is another mask now

    def archive(*words: str) -> str:
        environment = {**os.environ, **server.environment, "COLUMNS": "200", "USER": "ada"}
        command = [str(COMMAND), "archive", *words]
        result = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    archive("ship", "--drain")
    assert of in archive("proposals")
    assert any(of in line and "proposed" in line for line in archive("ls").splitlines())
    archive("accept", of)
    (tmp_path / "ids").write_text(of)
    archive("export", "--since", "1d", "--ids", "ids", "--to", "truth", "--corrected-only")
    [row] = [json.loads(line) for line in (tmp_path / "truth" / "manifest.jsonl").read_text().splitlines()]
    assert row["mask_source"] == "corrected"
    with Image.open(tmp_path / "truth" / "mask" / f"{row['name']}.png") as exported:
        assert np.array_equal(np.array(exported) > 127, painted)


def test_a_photo_that_was_not_kept_has_nothing_to_send(page: Page, photo: Path) -> None:
    page.check("#private")
    choose(page, photo)
    page.click("#brush")
    paint(page, (0.9, 0.1))
    assert page.is_hidden("#send-correction")
    assert page.is_hidden("#consent")
