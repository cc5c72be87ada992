"""Limits that server and command line share."""

from __future__ import annotations

MAX_BODY = 64_000_000  # bytes of one photo or short clip: what TorchServe takes of a body (config.properties)
