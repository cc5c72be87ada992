"""The built .mar with another setting in its model-config.yaml."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.running import MODEL, ROOT


def with_setting(path: Path, line: str, other: str) -> Path:
    """A copy at `path` in which `line` reads `other`."""
    with zipfile.ZipFile(ROOT / "model_store" / f"{MODEL}.mar") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("model-config.yaml"):
                assert line.encode() in data
                data = data.replace(line.encode(), other.encode())
            new.writestr(name, data)
    return path
