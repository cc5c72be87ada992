"""A real server, as the tests have it, and pictures to send to it."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from benchmarks.local_server import MODEL, PORT_NAMES, ROOT, Server, start_server

__all__ = ["MODEL", "PORT_NAMES", "ROOT", "Server", "encoded", "start_server"]


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    """`pixels`, uint8 [H, W, 3], as an image file."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()
