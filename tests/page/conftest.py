"""A real browser: Debian's Chromium without a window, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.running import Server

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),  # a webcam that says yes
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium with a make-believe webcam; skips where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install -e '.[dev]'")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Callable[..., Page]]:
    """open_page(url=None, **context options): a fresh page; an error in it, or of its policy, fails the test."""
    contexts: list[Any] = []
    faults: list[str] = []

    def open_it(url: str | None = None, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None)
        page.goto(url or server.predictions)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """The shared server's page on a desktop."""
    return open_page()


@pytest.fixture
def photo(tmp_path: Path, astronaut_jpeg: bytes) -> Path:
    """A portrait as a file: `my photo.jpg`, whose name needs quoting in a shell."""
    path = tmp_path / "my photo.jpg"
    path.write_bytes(astronaut_jpeg)
    return path
