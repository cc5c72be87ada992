"""Answered photos that were never answered, and an uploader for them."""

from __future__ import annotations

import logging
import uuid
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from humanseg.archive.capture.record import Exchange
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import Spool
from humanseg.archive.capture.telemetry import NoMetrics, RateLimitedLog
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.store import BucketSettings, Store
from humanseg.archive.ship.uploader import Uploader


def disc(width: int, height: int) -> bytes:
    """A mask: a disc, as PNG."""
    y, x = np.mgrid[0:height, 0:width]
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
    out = BytesIO()
    Image.fromarray(np.where(inside, 255, 0).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def exchange(photo: bytes, mask: bytes, size: tuple[int, int], time_: datetime | None = None) -> Exchange:
    """An answered photo with a new id."""
    return Exchange(
        request_id=str(uuid.uuid4()),
        time=time_ or datetime.now(timezone.utc),
        model_name="human_segmentation",
        model_version="1.0",
        weights_sha256="0" * 64,
        photo=photo,
        photo_format="jpeg",
        width=size[0],
        height=size[1],
        mask_png=lambda: mask,
        options={"output": "mask"},
        coverage=0.3,
        confidence=0.9,
        stage_seconds={"forward": 0.05},
    )


def uploader_of(folder: Path, settings: ArchiveSettings) -> Uploader:
    return Uploader(
        Spool(folder / "spool"),
        lambda: Store.open(Destination.find({}, folder), BucketSettings.of(settings)),
        settings,
        metrics=NoMetrics(),
        log=RateLimitedLog(logging.getLogger("archive")),
    )
