"""Names and places that server, client, command line and archive must agree on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

MODEL_NAME = "human_segmentation"
STATE_DIR = ".state"  # below the working directory, where STATE_DIR names no other


def state_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The server's state folder: spool, logs, store, registered models."""
    return Path(environment.get("STATE_DIR") or STATE_DIR)
