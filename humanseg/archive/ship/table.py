"""The table of a segment: one row per record, as Parquet for DuckDB, pyarrow, pandas, Athena and Spark.

The columns are the record's fields and the location of its bytes: `segment` is the tar's key, `*_offset` the first
byte of a member's data in it. `replaces` lists the segments (comma-separated) whose records are in this one; it is
empty for a segment from a server. `options` is JSON text. The segment's key contains day and hour.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from humanseg.archive.capture.correction import StoredCorrection
from humanseg.archive.capture.names import corrections_root, records_root
from humanseg.archive.capture.record import JSON, MASK, StoredRecord, check_request_id, parse_time, rfc3339
from humanseg.archive.capture.segment import Whole

ROW_GROUP = 20_000  # rows; readers skip groups by their range of times and confidences

_TIME = pa.timestamp("us", tz="UTC")
_PLACE = [
    ("segment", pa.string()),
    ("mask_offset", pa.int64()),
    ("json_offset", pa.int64()),
    ("json_bytes", pa.int32()),
    ("replaces", pa.string()),
]
RECORDS = pa.schema(
    [
        ("request_id", pa.string()),
        ("time", _TIME),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
        ("weights_sha256", pa.string()),
        ("photo_sha256", pa.string()),
        ("photo_format", pa.string()),
        ("sent_format", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("photo_bytes", pa.int64()),
        ("mask_sha256", pa.string()),
        ("mask_bytes", pa.int64()),
        ("coverage", pa.float64()),
        ("confidence", pa.float64()),
        ("brightness", pa.float64()),
        ("contrast", pa.float64()),
        ("sharpness", pa.float64()),
        ("decode_seconds", pa.float64()),
        ("forward_seconds", pa.float64()),
        ("encode_seconds", pa.float64()),
        ("output", pa.string()),
        ("options", pa.string()),
        ("consent_mode", pa.string()),
        ("consent_asked", pa.bool_()),
        ("sampling_reason", pa.string()),
        ("sampling_probability", pa.float64()),
        ("passed_over_declined", pa.int32()),
        ("passed_over_sampled_out", pa.int32()),
        ("passed_over_dropped", pa.int32()),
        ("label", pa.string()),
        ("clip_id", pa.string()),
        ("clip_seconds", pa.float64()),
        ("clip_sha256", pa.string()),
        ("photo_offset", pa.int64()),
        *_PLACE,
    ]
)
LABELS = pa.schema(
    [
        ("request_id", pa.string()),
        ("time", _TIME),
        ("photo_sha256", pa.string()),
        ("mask_sha256", pa.string()),
        ("mask_bytes", pa.int64()),
        ("corrected_by", pa.string()),
        *_PLACE,
    ]
)


CORRECTIONS = pa.schema(
    [
        ("request_id", pa.string()),
        ("of", pa.string()),
        ("time", _TIME),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mask_sha256", pa.string()),
        ("mask_bytes", pa.int64()),
        *_PLACE,
    ]
)


@dataclass(frozen=True)
class StoredLabel:
    """A corrected mask's JSON, and its row in the table: annotator, time and photo."""

    request_id: str
    time: datetime
    photo_sha256: str
    mask_sha256: str
    mask_bytes: int
    corrected_by: str

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps({"schema_version": 2, **asdict(self), "time": rfc3339(self.time)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> StoredLabel:
        """Parse the output of `to_json`; raises ValueError, TypeError or KeyError for anything else."""
        found = json.loads(text)
        if found.pop("schema_version") != 2:
            raise ValueError("no label of schema version 2")
        check_request_id(str(found["request_id"]))
        return cls(**{**found, "time": parse_time(found["time"])})

    def parts(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of the member before the JSON."""
        return {MASK: (self.mask_bytes, self.mask_sha256)}


def record_row(found: Whole[StoredRecord], segment: str) -> dict[str, Any]:
    """The row of a record found in the object `segment`."""
    sample = found.sample
    photo = next(iter(sample.parts()))
    options = json.dumps(dict(sample.options), ensure_ascii=False)
    return {**vars(sample), "options": options, "photo_offset": found.offsets[photo], **_place(found, segment)}


def label_row(found: Whole[StoredLabel] | Whole[StoredCorrection], segment: str) -> dict[str, Any]:
    """The row of a corrected mask found in the object `segment`."""
    return {**vars(found.sample), **_place(found, segment)}


@dataclass(frozen=True)
class Kind:
    """What servers write: where it lies under a prefix, its table, and the row of one that stands in a segment."""

    stored: type[Any]
    root: Callable[[str], str]
    schema: pa.Schema
    row: Callable[[Whole[Any], str], dict[str, Any]]


KINDS = (
    Kind(StoredRecord, records_root, RECORDS, record_row),
    Kind(StoredCorrection, corrections_root, CORRECTIONS, label_row),
)


def stored_record(row: Mapping[str, Any]) -> StoredRecord:
    """The record of a row, identical to its JSON in the segment."""
    values = {name: row[name] for name in StoredRecord.__dataclass_fields__}
    return StoredRecord(**{**values, "options": json.loads(values["options"])})


def _place(found: Whole[Any], segment: str) -> dict[str, Any]:
    return {
        "segment": segment,
        "mask_offset": found.offsets[MASK],
        "json_offset": found.offsets[JSON],
        "json_bytes": found.json_bytes,
        "replaces": "",
    }


def to_parquet(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    """The rows as one Parquet file (zstd)."""
    return table_bytes(pa.Table.from_pylist(list(rows), schema=schema))


def table_bytes(table: pa.Table) -> bytes:
    """A table as one Parquet file (zstd)."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", row_group_size=ROW_GROUP)
    return out.getvalue()
