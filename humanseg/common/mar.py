"""A model archive (.mar): what its manifest says."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "MAR-INF/MANIFEST.json"


class MarError(ValueError):
    """The file is not a model archive; the message names it."""


@dataclass(frozen=True)
class Manifest:
    """Name and version under which TorchServe serves the archive."""

    name: str
    version: str


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the .mar at `path`.

    Raises:
        MarError: no such file, not a zip, or a manifest without name and version.
    """
    try:
        with zipfile.ZipFile(path) as mar:
            model = json.loads(mar.read(MANIFEST))["model"]
            return Manifest(str(model["modelName"]), str(model["modelVersion"]))
    except FileNotFoundError:
        raise MarError(f"{path}: no such file") from None
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise MarError(f"{path} is not a model archive ({error})") from None
