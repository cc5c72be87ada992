"""The `humanseg` command as its own process, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).parent / "humanseg"
OURS = ("HUMANSEG_", "INFERENCE_", "MANAGEMENT_", "STATE_DIR", "WORKERS")


@pytest.fixture
def humanseg() -> Callable[..., subprocess.CompletedProcess[str]]:
    """humanseg(*words, cwd=None, **environment): run the command to its end, with wide tables."""

    def run(*words: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        result = subprocess.run(
            [str(COMMAND), *map(str, words)],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=cwd,
            check=False,
            env={**clean, "COLUMNS": "200", "NO_COLOR": "1", **environment},
        )
        assert "Traceback" not in result.stderr, result.stderr
        return result

    return run
