"""Linters and the AWS CLI, each in a virtual environment of its own: made once, kept in the user's cache folder."""

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
def folder(requirements: Path = REQUIREMENTS) -> Path:
    """The environment's bin folder; skips the test, with pip's last line, where it can't be made."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "humanseg"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    key = hashlib.sha256(requirements.read_bytes() + version.encode()).hexdigest()[:12]
    environment = cache / f"lint-{key}"
    if not (environment / "complete").exists():
        shutil.rmtree(environment, ignore_errors=True)
        venv.create(environment, with_pip=True)
        command = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", requirements]
        result = subprocess.run(command, capture_output=True, text=True, timeout=900)
        if result.returncode:
            pytest.skip(f"{requirements.name} can't be installed: {(result.stderr.strip() or '?').splitlines()[-1]}")
        (environment / "complete").touch()
    return environment / "bin"


def run(tool: str, *arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a linter; its standard output, error and exit status."""
    command = [str(folder() / tool), *(str(argument) for argument in arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300)
