"""Names and paths shared by server, client, command line and archive."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

MODEL_NAME = "human_segmentation"
STATE_DIR = ".state"  # relative to the working directory, unless STATE_DIR is set


def state_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The server's state folder: spool, logs, store, registered models."""
    return Path(environment.get("STATE_DIR") or STATE_DIR)
