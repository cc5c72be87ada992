"""A corrected mask that a user sent back: a proposal until a reviewer accepts it as a label.

    CORRECTION_ID.mask.png     the mask, 0/255, one channel
    CORRECTION_ID.json         `StoredCorrection`, with the request id of the photo's record

The spool stores corrections in the same segments as records; the bucket stores them under a separate prefix. Every
client can send a correction, and record ids are not secret, so a correction is untrusted until it is reviewed.
correction.schema.json in this folder is the JSON Schema.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from humanseg.archive.capture.record import (
    JSON,
    MASK,
    Record,
    StoredRecord,
    check_request_id,
    parse_time,
    parsed,
    rfc3339,
    sample_blocks,
)

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Correction:
    """The handler's input: a mask, the id of its own request, and `of`, the request id of the photo's record.

    time: timezone-aware. mask: PNG, one channel, 0/255, `width` x `height`.
    """

    request_id: str
    of: str
    time: datetime
    mask: bytes
    width: int
    height: int


@dataclass(frozen=True)
class StoredCorrection:
    """A correction's JSON, and its row in the table. of: the request id of the record that it corrects."""

    request_id: str
    of: str
    time: datetime
    width: int
    height: int
    mask_sha256: str
    mask_bytes: int

    def to_json(self) -> str:
        """One line of JSON, valid under correction.schema.json."""
        values = {"correction_version": SCHEMA_VERSION, **asdict(self), "time": rfc3339(self.time)}
        return json.dumps(values, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> StoredCorrection:
        """Parse the output of `to_json`; raises ValueError for anything else."""
        values = parsed(text, _NAMES, "correction_version", SCHEMA_VERSION)
        check_request_id(str(values["of"]))
        return cls(**values)

    def parts(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of the mask."""
        return {MASK: (self.mask_bytes, self.mask_sha256)}

    @property
    def photo_id(self) -> str:
        """The request id of the photo; erasing the photo erases its corrections."""
        return self.of


_NAMES = {field.name for field in fields(StoredCorrection)}

Stored = StoredRecord | StoredCorrection


def decode(text: str | bytes) -> Stored:
    """Parse a JSON member of the spool as a record or a correction; raises ValueError for anything else."""
    content = json.loads(text)
    is_correction = isinstance(content, dict) and "correction_version" in content
    return StoredCorrection.from_json(text) if is_correction else StoredRecord.from_json(text)


def build_correction(correction: Correction) -> Record:
    """The correction in a segment's layout. Raises ValueError if an id or the time is invalid."""
    stored = StoredCorrection(
        request_id=check_request_id(correction.request_id),
        of=check_request_id(correction.of),
        time=parse_time(rfc3339(correction.time)),
        width=correction.width,
        height=correction.height,
        mask_sha256=hashlib.sha256(correction.mask).hexdigest(),
        mask_bytes=len(correction.mask),
    )
    contents = (correction.mask, stored.to_json().encode())
    return Record(stored, sample_blocks(stored.request_id, stored.time, (*stored.parts(), JSON), contents))
