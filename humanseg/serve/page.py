"""Assembles the web page from its parts in handler/page/.

It is one file in the .mar, because the worker serves one file and the page may load nothing else. A line `<!--
include NAME -->` or `/* include NAME */` in a part includes that file.
"""

from __future__ import annotations

import re
from pathlib import Path

INCLUDE = re.compile(r"^[ \t]*(?:<!-- include (\S+) -->|/\* include (\S+) \*/)\n", re.MULTILINE)


def build_page(folder: Path) -> str:
    """The whole page from `folder`/index.html and what it includes, directly or through another part.

    Raises:
        OSError: a part is missing or can't be read.
    """
    return _expanded(folder / "index.html")


def _expanded(part: Path) -> str:
    text = part.read_text(encoding="utf-8")
    return INCLUDE.sub(lambda match: _expanded(part.parent / (match[1] or match[2])), text)
