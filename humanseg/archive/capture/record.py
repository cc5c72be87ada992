"""One photo's record: what is kept of a request and response, and its layout in a segment.

    REQUEST_ID.jpg         the photo as sent, without metadata
    REQUEST_ID.mask.png    the mask as answered, 0/255, at the photo's size
    REQUEST_ID.json        everything else (`StoredRecord`); written last, as the record's commit marker

record.schema.json next to this file is the JSON Schema of the JSON. Its fields are the columns of the table.
There is no field for the client's address, headers or file name, and none may be added.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from typing import Any, Protocol

from humanseg.archive.capture.tar import header, padding

SCHEMA_VERSION = 2
LABEL_MAX = 200
EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif", "tiff": "tif", "bmp": "bmp"}
EXTENSIONS |= {"heic": "heic", "heif": "heic", "avif": "avif"}
MASK = "mask.png"
JSON = "json"
STAGES = ("decode", "forward", "encode")


@dataclass(frozen=True)
class ClipFrame:
    """Which clip a photo is a frame of. seconds: the frame's time in it. sha256: of the clip as it was sent.

    id: of the request that brought the clip. Frames of clips with one sha256 are near-duplicates: a split of photos
    into a training and a held-out part must keep them together.
    """

    id: str
    seconds: float
    sha256: str


@dataclass(frozen=True)
class Exchange:
    """The handler's input to the archive for one photo that it answered with 200.

    `photo` is the photo as sent, bit for bit; the archive strips the metadata. `mask_png` gives the binary
    mask (0/255, one channel, the photo's upright size) as PNG bytes, `appearance` the photo's brightness,
    contrast and sharpness; both are called only if the record is kept. `time` must be timezone-aware.
    `coverage` and `confidence` are 0..1. `consent` is the request's `archive=yes|no` (None: not given), `label` its
    x-label header. `clip` is set if the photo is a frame of a clip, encoded by the server.
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
    orientation: int | None = None  # EXIF's, 1..8, as decoded; None: the archive reads it itself
    appearance: Callable[[], tuple[float, float, float]] = lambda: (0.0, 0.0, 0.0)
    clip: ClipFrame | None = None


@dataclass(frozen=True)
class StoredRecord:
    """A record's JSON, and its row in the table. Sizes in bytes, sides in pixels, shares 0..1, time in UTC.

    `passed_over_*` count the photos that the same worker answered but did not keep since its previous record.
    `clip_*` are None for a photo; for a frame of a clip see `ClipFrame`.
    """

    request_id: str
    time: datetime
    model_name: str
    model_version: str
    weights_sha256: str
    photo_sha256: str
    photo_format: str
    sent_format: str
    width: int
    height: int
    photo_bytes: int
    mask_sha256: str
    mask_bytes: int
    coverage: float
    confidence: float
    brightness: float
    contrast: float
    sharpness: float
    decode_seconds: float
    forward_seconds: float
    encode_seconds: float
    output: str
    options: Mapping[str, str]
    consent_mode: str
    consent_asked: bool | None
    sampling_reason: str
    sampling_probability: float
    passed_over_declined: int
    passed_over_sampled_out: int
    passed_over_dropped: int
    label: str | None
    clip_id: str | None
    clip_seconds: float | None
    clip_sha256: str | None

    def to_json(self) -> str:
        """One line of JSON according to record.schema.json."""
        values = {"schema_version": SCHEMA_VERSION, **asdict(self), "time": rfc3339(self.time)}
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> StoredRecord:
        """Parse the output of `to_json`; raises ValueError for anything else."""
        return cls(**parsed(text, _NAMES, "schema_version", SCHEMA_VERSION))

    @property
    def photo_id(self) -> str:
        """The request id of the photo; erasing the photo erases this record."""
        return self.request_id

    def parts(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of each member before the JSON, by extension, in the order of the segment."""
        return {
            extension_of(self.photo_format): (self.photo_bytes, self.photo_sha256),
            MASK: (self.mask_bytes, self.mask_sha256),
        }


_NAMES = {field.name for field in fields(StoredRecord)}


def parsed(text: str | bytes, names: set[str], version_key: str, version: int) -> dict[str, Any]:
    """The fields `names` of a stored JSON, with `time` as a datetime; raises ValueError for anything else."""
    content = json.loads(text)
    if not isinstance(content, dict) or content.pop(version_key, None) != version:
        raise ValueError(f"no JSON with {version_key} {version}")
    if set(content) != names:
        raise ValueError(f"a JSON with other fields: {sorted(names ^ set(content))}")
    check_request_id(str(content["request_id"]))
    return {**content, "time": parse_time(content["time"])}


class Timed(Protocol):
    """What a segment is named by."""

    @property
    def time(self) -> datetime:
        """When it came, in UTC."""
        ...


@dataclass(frozen=True)
class Record:
    """A record or correction in a segment's layout, as buffers for one `writev`: a whole number of tar blocks."""

    stored: Timed
    blocks: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Its size in a segment, in bytes."""
        return sum(map(len, self.blocks))


def sample_blocks(
    base: str, time: datetime, extensions: tuple[str, ...], contents: tuple[bytes, ...]
) -> tuple[bytes, ...]:
    """Members of one sample (`base` and an extension each) with headers and padding."""
    mtime = max(0, int(time.timestamp()))
    blocks: list[bytes] = []
    for extension, data in zip(extensions, contents, strict=True):
        blocks += (header(f"{base}.{extension}", len(data), mtime), data, padding(len(data)))
    return tuple(blocks)


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
    """The record of `exchange` with its stripped `photo` (in `photo_format`) and its `mask`.

    `passed_over` counts the photos that this worker answered but did not keep since its last record, by outcome. It
    is stored so that rates can be computed from the bucket alone.

    Raises:
        ValueError: an id that is not a valid member name, a time without a timezone, a number that is not finite.
    """
    options = {str(name): str(value) for name, value in exchange.options.items()}
    clip = exchange.clip
    seconds = {name: round(float(exchange.stage_seconds.get(name, 0.0)), 6) for name in STAGES}
    brightness, contrast, sharpness = (round(float(value), 4) for value in exchange.appearance())
    stored = StoredRecord(
        request_id=check_request_id(exchange.request_id),
        time=_utc(exchange.time),
        model_name=exchange.model_name,
        model_version=exchange.model_version,
        weights_sha256=exchange.weights_sha256,
        photo_sha256=hashlib.sha256(photo).hexdigest(),
        photo_format=photo_format,
        sent_format=exchange.photo_format,
        width=exchange.width,
        height=exchange.height,
        photo_bytes=len(photo),
        mask_sha256=hashlib.sha256(mask).hexdigest(),
        mask_bytes=len(mask),
        coverage=round(float(exchange.coverage), 6),
        confidence=round(float(exchange.confidence), 6),
        brightness=brightness,
        contrast=contrast,
        sharpness=sharpness,
        decode_seconds=seconds["decode"],
        forward_seconds=seconds["forward"],
        encode_seconds=seconds["encode"],
        output=options.get("output", "mask"),
        options=options,
        consent_mode=mode,
        consent_asked=exchange.consent,
        sampling_reason=reason,
        sampling_probability=probability,
        passed_over_declined=passed_over["declined"],
        passed_over_sampled_out=passed_over["sampled_out"],
        passed_over_dropped=passed_over["dropped"],
        label=checked_label(exchange.label),
        clip_id=check_request_id(clip.id) if clip else None,
        clip_seconds=round(float(clip.seconds), 6) if clip else None,
        clip_sha256=clip.sha256 if clip else None,
    )
    contents = (photo, mask, stored.to_json().encode())
    return Record(stored, sample_blocks(stored.request_id, stored.time, (*stored.parts(), JSON), contents))


def extension_of(photo_format: str) -> str:
    """The file extension of a photo in this format."""
    return EXTENSIONS.get(photo_format, "bin")


def _utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError(f"time {time!r} has no timezone: give a UTC time")
    return time.astimezone(timezone.utc)


def rfc3339(time: datetime) -> str:
    """`time` in UTC with microseconds and a Z, always 27 characters: sorts as text."""
    return _utc(time).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """The UTC time that `rfc3339` wrote; `fromisoformat` takes no Z before Python 3.11."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)


def check_request_id(request_id: str) -> str:
    """Return `request_id` unchanged; raises ValueError if it can't be the name of a file or a member."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}", request_id):
        raise ValueError(f"request id {request_id!r} is not 1 to 64 letters, digits and dashes")
    return request_id


def checked_label(label: str | None) -> str | None:
    """The client's x-label: at most LABEL_MAX printable characters, else ValueError with the fix.

    The handler may call this while it parses the request, to answer 400. An invalid label that arrives here is
    dropped from the record; it never fails the request.
    """
    if label is None or label == "":
        return None
    if len(label) > LABEL_MAX or not label.isprintable():
        raise ValueError(f"x-label must be at most {LABEL_MAX} printable characters, such as booth-3")
    return label
