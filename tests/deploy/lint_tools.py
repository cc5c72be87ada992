"""The linters, in a virtual environment of their own: made once, kept in the user's cache folder."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).with_name("requirements-lint.txt")


@functools.cache
def folder() -> Path:
    """The environment's bin folder; skips the test, with pip's last line, where it can't be made."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "humanseg"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + version.encode()).hexdigest()[:12]
    place = cache / f"lint-{key}"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        command = [place / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        if done.returncode:
            pytest.skip(f"the linters can't be installed: {(done.stderr.strip() or '?').splitlines()[-1]}")
        (place / "complete").touch()
    return place / "bin"


def run(tool: str, *arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a linter; its standard output, error and exit status."""
    command = [str(folder() / tool), *(str(each) for each in arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300)
