"""Another version of a .mar, without building it anew."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

MANIFEST = "MAR-INF/MANIFEST.json"


def with_manifest(mar: Path, target: Path, **changes: str) -> Path:
    """Copy `mar` to `target` with these keys of the manifest's `model` changed; e.g. modelVersion="2.0"."""
    with zipfile.ZipFile(mar) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == MANIFEST:
                manifest = json.loads(content)
                manifest["model"].update(changes)
                content = json.dumps(manifest).encode()
            new.writestr(name, content)
    return target


def broken(mar: Path, target: Path, **changes: str) -> Path:
    """The same, with a handler that cannot be loaded."""
    with_manifest(mar, target, **changes)
    with zipfile.ZipFile(target) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    handler = json.loads(parts[MANIFEST])["model"]["handler"]
    parts[handler.partition(":")[0]] = b"raise RuntimeError('broken on purpose')\n"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return target
