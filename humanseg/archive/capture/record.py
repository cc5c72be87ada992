"""One photo's record: what is kept of an exchange, under which keys, and as which JSON.

    PREFIX/v1/dt=2026-11-22/hour=15/REQUEST_ID/photo.jpg     what was sent, without metadata
    PREFIX/v1/dt=2026-11-22/hour=15/REQUEST_ID/mask.png      what was answered, 0/255, at the photo's size
    PREFIX/v1/dt=2026-11-22/hour=15/REQUEST_ID/record.json   the rest; written last, it is the commit mark

The key comes from the record alone (UTC time and request id), so that any shipper computes the same one.
record.schema.json next to this file is the JSON Schema of record.json. There is no field for the client's
address, headers or file name, and none may be added.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

SCHEMA_VERSION = 1
LABEL_MAX = 200
EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif", "tiff": "tif", "bmp": "bmp"}
EXTENSIONS |= {"heic": "heic", "heif": "heic", "avif": "avif"}
RECORD = "record.json"
MASK = "mask.png"


@dataclass(frozen=True)
class Exchange:
    """What the handler hands to the archive about one photo that it answered with 200.

    `photo` is what was sent, bit for bit; the archive takes the metadata out. `mask_png` gives the binary
    mask (0/255, one channel, the photo's upright size) as PNG bytes; it is called only when the record is
    kept. `time` must be timezone-aware. `coverage` and `confidence` are 0..1. `consent` is what the
    request said with `archive=yes|no` (None: nothing), `label` its x-label header.
    """

    request_id: str
    time: datetime
    model_name: str
    model_version: str
    weights_sha256: str
    photo: bytes
    photo_format: str  # "jpeg", "png", "webp", "gif", "tiff", "bmp", "heic" or "avif"
    width: int
    height: int
    mask_png: Callable[[], bytes]
    options: Mapping[str, str]
    coverage: float
    confidence: float
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    consent: bool | None = None
    label: str | None = None


@dataclass(frozen=True)
class Record:
    """One record, ready for the spool: the three files' names and bytes, and the day and hour of its key."""

    request_id: str
    time: datetime
    files: tuple[tuple[str, bytes], ...]  # in upload order: photo, mask, record.json last

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(len(data) for _, data in self.files)


def build_record(
    exchange: Exchange,
    photo: bytes,
    photo_format: str,
    mask: bytes,
    *,
    mode: str,
    reason: str,
    probability: float,
    passed_over: Mapping[str, int],
) -> Record:
    """The record of `exchange` with its cleaned `photo` (in `photo_format`) and its `mask`.

    `passed_over` counts the photos that this worker answered but did not keep since its last record, by
    outcome. It rides along so that shares can be computed from the bucket alone.
    """
    check_request_id(exchange.request_id)
    photo_name = "photo." + EXTENSIONS.get(photo_format, "bin")
    about = {
        "schema_version": SCHEMA_VERSION,
        "request_id": exchange.request_id,
        "time": rfc3339(exchange.time),
        "model": {
            "name": exchange.model_name,
            "version": exchange.model_version,
            "weights_sha256": exchange.weights_sha256,
        },
        "photo": {
            "file": photo_name,
            "format": photo_format,
            "sent_format": exchange.photo_format,
            "width": exchange.width,
            "height": exchange.height,
            "bytes": len(photo),
            "sha256": hashlib.sha256(photo).hexdigest(),
        },
        "mask": {"file": MASK, "bytes": len(mask), "sha256": hashlib.sha256(mask).hexdigest()},
        "options": {str(name): str(value) for name, value in exchange.options.items()},
        "coverage": round(float(exchange.coverage), 6),
        "confidence": round(float(exchange.confidence), 6),
        "stage_seconds": {name: round(float(value), 6) for name, value in exchange.stage_seconds.items()},
        "consent": {"mode": mode, "asked": exchange.consent},
        "sampling": {"reason": reason, "probability": probability},
        "passed_over": dict(passed_over),
        "label": checked_label(exchange.label),
    }
    text = json.dumps(about, ensure_ascii=False, allow_nan=False).encode()
    return Record(
        exchange.request_id,
        exchange.time.astimezone(timezone.utc),
        ((photo_name, photo), (MASK, mask), (RECORD, text)),
    )


def record_folder(prefix: str, about: Mapping[str, Any]) -> str:
    """The key of the record's folder, without a slash at its end, from a parsed record.json.

    >>> record_folder("humanseg", {"request_id": "4f1c8e0a-1", "time": "2026-11-22T15:04:05.000000Z"})
    'humanseg/v1/dt=2026-11-22/hour=15/4f1c8e0a-1'
    """
    time = str(about["time"])
    return f"{prefix}/v1/dt={time[:10]}/hour={time[11:13]}/{check_request_id(str(about['request_id']))}"


def rfc3339(time: datetime) -> str:
    """`time` in UTC with microseconds and a Z, always 27 characters: sorts as text."""
    if time.tzinfo is None:
        raise ValueError(f"time {time!r} has no timezone: give a UTC time")
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def check_request_id(request_id: str) -> str:
    """`request_id` as it is; raises ValueError for one that can't be a folder's name in a key."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}", request_id):
        raise ValueError(f"request id {request_id!r} is not 1 to 64 letters, digits and dashes")
    return request_id


def checked_label(label: str | None) -> str | None:
    """The client's x-label: at most LABEL_MAX printable characters, else ValueError with the fix.

    The handler may call this while it reads the request, to answer 400; a label that arrives here unchecked
    costs the record its label, never the request.
    """
    if label is None or label == "":
        return None
    if len(label) > LABEL_MAX or not label.isprintable():
        raise ValueError(f"x-label must be at most {LABEL_MAX} printable characters, such as booth-3")
    return label
