"""axe-core finds nothing at three widths, light and dark, in every state of the page; Tab gets everywhere."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.page.driving import choose, view

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = "axe-core@4.14.1"


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, from npm; skips where npm can't fetch it."""
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine, which fetches axe-core")
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "pack", AXE, "--silent", "--fetch-retries=0", "--fetch-timeout=20000"]
    packed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    if packed.returncode != 0:
        pytest.skip(f"npm can't fetch {AXE}: {packed.stderr.strip()[-200:]}")
    with tarfile.open(folder / packed.stdout.split()[-1]) as package:
        member = package.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_axe_finds_nothing(
    open_page: Callable[..., Page], photo: Path, tmp_path: Path, axe: str, width: int, scheme: str
) -> None:
    page = open_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.evaluate(axe)
    violations: dict[str, list[str]] = {}

    def look_at(state: str) -> None:
        violations = page.evaluate(
            "async () => (await axe.run()).violations.map((one) => `${one.id}: ${one.nodes[0].target}`)"
        )
        if violations:
            violations[state] = violations
        assert page.evaluate("document.documentElement.scrollWidth") <= width, state

    look_at("start")
    (tmp_path / "notes.txt").write_text("no photo")
    choose(page, photo, photo, tmp_path / "notes.txt")
    look_at("two photos and an error")
    view(page, "cutout", "colour")
    look_at("a colour behind")
    view(page, "cutout", "picture")
    page.click("#compare")
    look_at("compare")
    page.click("#brush")
    page.click("#brush-bar summary")
    page.click("#zoom-in")
    look_at("brush")
    page.click("#webcam")
    page.wait_for_selector("#snap:enabled")
    look_at("webcam")
    assert violations == {}


def test_tab_reaches_every_control(page: Page, photo: Path) -> None:
    choose(page, photo, photo)
    view(page, "cutout", "colour")
    page.click("#compare")
    wanted = {
        *("choose", "webcam", "private", "remove", "remove-all", "stage", "divider", "compare", "brush", "zoom-out"),
        *("zoom-fit", "zoom-in", "threshold", "colour", "download", "copy-picture", "download-all", "copy"),
    }
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.name"))
    assert wanted | {"view", "background"} <= reached


def test_the_keyboard_brings_the_focus_along(page: Page, photo: Path) -> None:
    choose(page, photo)
    page.focus("#brush")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")  # zoom-out
    assert page.get_attribute("#brush", "aria-expanded") == "true"
    page.focus("#stage")
    page.keyboard.press("Space")
    page.focus("#undo")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "stage"  # not lost with the button that is disabled now
