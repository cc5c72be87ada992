"""MediaPipe's selfie segmentation (Apache-2.0), out of its npm package."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGE = "@mediapipe/selfie_segmentation@0.1.1675465747"


def mediapipe_folder(folder: Path) -> Path:
    """The package's folder, brought into `folder`; skips the test where npm can't bring it."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    packed = subprocess.run(
        ["npm", "pack", "--silent", PACKAGE], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    if packed.returncode:
        pytest.skip(f"npm could not bring MediaPipe's package: {packed.stderr.strip()[-200:]}")
    subprocess.run(["tar", "xzf", packed.stdout.strip().splitlines()[-1]], cwd=folder, check=True)
    return folder / "package"
