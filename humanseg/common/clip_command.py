"""The command that processes a clip which the server refuses as too large."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

OPTIONS = ("output", "threshold", "background", "quality", "keep")


def clip_command(ending: str, options: Mapping[str, str | None]) -> str:
    """`humanseg segment` for a result with that suffix. options: those given, by name.

    >>> clip_command("webm", {"output": "cutout", "quality": "best", "format": "webm"})
    'humanseg segment clip.mp4 -o out.webm --output cutout --quality best'
    """
    words = [word for name in OPTIONS if (value := options.get(name)) for word in (f"--{name}", value)]
    return shlex.join(["humanseg", "segment", "clip.mp4", "-o", f"out.{ending}", *words])
