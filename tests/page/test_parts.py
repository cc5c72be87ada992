"""The page's parts, and the one file that the build makes of them."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from humanseg.serve.build_mar import DEFAULT_NAME, MODEL_STORE
from humanseg.serve.page import INCLUDE, build_page
from tests.running import ROOT, Server

PARTS = ROOT / "handler" / "page"


def test_every_part_is_included_once() -> None:
    included = [a or b for part in PARTS.iterdir() for a, b in INCLUDE.findall(part.read_text())]
    assert sorted(included) == sorted(part.name for part in PARTS.iterdir() if part.name != "index.html")


def test_a_part_stands_where_it_is_included(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<style>\n/* include a.css */\n</style>\n  <!-- include b.html -->\nend\n")
    (tmp_path / "a.css").write_text("a {}\n")
    (tmp_path / "b.html").write_text("<b>\n  <!-- include c.html -->\n</b>\n")
    (tmp_path / "c.html").write_text("\\1\n")
    assert build_page(tmp_path) == "<style>\na {}\n</style>\n<b>\n\\1\n</b>\nend\n"


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!-- include gone.html -->\n")
    with pytest.raises(OSError, match=r"gone\.html"):
        build_page(tmp_path)


def test_one_style_and_one_script_and_nothing_inline_beside_them() -> None:
    page = build_page(PARTS)
    assert (page.count("<style>"), page.count("<script"), page.count("</script")) == (1, 1, 1)
    markup = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"\s(on\w+|style)=", markup)


def test_the_mar_holds_the_page_and_not_its_parts(server: Server) -> None:  # its start built the .mar
    with zipfile.ZipFile(MODEL_STORE / f"{DEFAULT_NAME}.mar") as mar:
        assert mar.read("handler/page.html").decode() == build_page(PARTS)
        assert [name for name in mar.namelist() if name.startswith("handler/page/")] == []
