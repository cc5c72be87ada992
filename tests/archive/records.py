"""Five small records, alone and as one segment."""

from __future__ import annotations

from pathlib import Path

from humanseg.archive.capture.record import Record, build_record
from humanseg.archive.capture.writer import SegmentWriter
from tests.archive.helpers import exchange


def make_record(number: int, photo: bytes | None = None) -> Record:
    given = exchange(number)
    return build_record(
        given,
        given.photo if photo is None else photo,
        "jpeg",
        given.mask_png(),
        mode="opt-out",
        reason="sample",
        probability=1.0,
        passed_over={"declined": 0, "sampled_out": 0, "dropped": 0},
    )


RECORDS = [make_record(number, bytes([number]) * size) for number, size in enumerate((700, 1, 512, 1300, 0))]
BYTES = [b"".join(record.blocks) for record in RECORDS]
SEGMENT = b"".join(BYTES)
IDS = [record.stored.request_id for record in RECORDS]


def writer_at(root: Path, **changes: object) -> SegmentWriter:
    values: dict[str, object] = {"segment_bytes": 1 << 20, "segment_seconds": 60.0, **changes}
    return SegmentWriter(root, **values)  # type: ignore[arg-type]
