"""A corrected mask that somebody sent back: a proposal, until a person accepts it as a label.

    CORRECTION_ID.mask.png     what was sent, 0/255, one channel
    CORRECTION_ID.json         which photo it is of, by the request id of its record (`StoredCorrection`)

It lies in the same segments of the spool as records, and goes to a place of its own in the bucket. Whoever can send a
photo can send a correction, and the id of a record is no secret: so it is never taken for truth unseen.
correction.schema.json next to this file is the JSON Schema of the JSON.
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
    rfc3339,
    sample_blocks,
)

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Correction:
    """What the handler hands over: a mask, the request id of the photo's record, and its own request's id.

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
        """One line of JSON, after correction.schema.json."""
        values = {"correction_version": SCHEMA_VERSION, **asdict(self), "time": rfc3339(self.time)}
        return json.dumps(values, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> StoredCorrection:
        """The correction that `to_json` wrote; raises ValueError for anything else."""
        found = json.loads(text)
        if not isinstance(found, dict) or found.pop("correction_version", None) != SCHEMA_VERSION:
            raise ValueError(f"no correction of version {SCHEMA_VERSION}")
        if set(found) != _NAMES:
            raise ValueError(f"a correction with other fields: {sorted(_NAMES ^ set(found))}")
        for name in ("request_id", "of"):
            check_request_id(str(found[name]))
        return cls(**{**found, "time": parse_time(found["time"])})

    def parts(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of the member before the JSON."""
        return {MASK: (self.mask_bytes, self.mask_sha256)}

    @property
    def photo_id(self) -> str:
        """The request id of the photo: whoever erases that erases this."""
        return self.of


_NAMES = {one.name for one in fields(StoredCorrection)}

Stored = StoredRecord | StoredCorrection


def decode(text: str | bytes) -> Stored:
    """The record or correction that a JSON member of the spool holds; raises ValueError for anything else."""
    found = json.loads(text)
    is_correction = isinstance(found, dict) and "correction_version" in found
    return StoredCorrection.from_json(text) if is_correction else StoredRecord.from_json(text)


def build_correction(correction: Correction) -> Record:
    """The correction as it lies in a segment. Raises ValueError: an id or a time that can't be."""
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
