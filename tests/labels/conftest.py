"""Masks to label, and Label Studio's own converter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

# Its dependencies pin another OpenCV than ours, and the brush module needs none of them.
SDK = "label-studio-sdk==2.1.2"


@pytest.fixture(scope="session")
def label_studio_sdk(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], Any]:
    """Runs a line of Python beside Label Studio's own `brush` module, with `given`; what it assigns to `answer`."""
    folder = tmp_path_factory.mktemp("sdk")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), SDK]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"{SDK} can't be installed here: {result.stderr.strip().splitlines()[-1:]}")

    def run(line: str, given: Any) -> Any:
        code = (
            "import json, sys, numpy as np\nimport label_studio_sdk.converter.brush as brush\n"
            f"given = json.load(sys.stdin)\n{line}\nprint('ANSWER', json.dumps(answer))"
        )
        answered = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(folder)},
        )
        assert answered.returncode == 0, answered.stderr
        return json.loads(answered.stdout.rpartition("ANSWER ")[2])

    return run


@pytest.fixture
def ring() -> np.ndarray:
    """A ring with a hole, uint8 [40, 61], 0/255."""
    mask = np.zeros((40, 61), np.uint8)
    cv2.circle(mask, (30, 20), 15, 255, -1)
    cv2.circle(mask, (30, 20), 6, 0, -1)
    return mask


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path
