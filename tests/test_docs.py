"""The drawing of the house is the one that the imports give."""

from __future__ import annotations

import subprocess
import sys

from tests.running import ROOT


def test_the_drawing_of_the_architecture_is_fresh() -> None:
    command = [sys.executable, "docs/architecture.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
