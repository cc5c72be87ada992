"""Corrected masks (labels): stored beside the model's own prediction, and preferred in every export.

They are stored like records, under labels/v2: one segment per import, with `ID.mask.png` (0/255) and `ID.json`
(annotator, time, photo), and its table. The latest correction of a photo is used; earlier ones are not overwritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from humanseg.archive.capture.names import make_name, new_writer, segment_key, table_key
from humanseg.archive.capture.record import JSON, check_request_id, sample_blocks
from humanseg.archive.capture.segment import Whole, scan
from humanseg.archive.capture.tar import END
from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.reader import Reader
from humanseg.archive.ship.table import LABELS, StoredLabel, label_row, to_parquet
from humanseg.labels.png import decode_png


@dataclass(frozen=True)
class Label:
    """The current correction of a photo, and the location of its mask."""

    mask_sha256: str
    corrected_by: str
    segment: str
    mask_offset: int
    mask_bytes: int


def read_labels(reader: Reader) -> dict[str, Label]:
    """The current (latest) correction of each photo, by the photo's SHA-256."""
    tables = list(reader.labels.days_rows())
    rows = pa.concat_tables([LABELS.empty_table(), *tables])
    order = [("time", "ascending"), ("segment", "ascending"), ("request_id", "ascending")]
    return {
        row["photo_sha256"]: Label(
            row["mask_sha256"], row["corrected_by"], row["segment"], row["mask_offset"], row["mask_bytes"]
        )
        for row in rows.sort_by(order).to_pylist()
    }


def edited_masks(folder: Path, labels: dict[str, Label]) -> list[Path]:
    """Masks of an export that were edited since and are not among the archive's `labels` in this form."""
    edited = []
    for name, row in read_manifest(folder).items():
        path = folder / "mask" / f"{name}.png"
        data = path.read_bytes() if path.is_file() else b""
        label = labels.get(row["photo_sha256"])
        known = {row["mask_sha256"], label.mask_sha256 if label else ""}
        if not data or hashlib.sha256(data).hexdigest() in known:
            continue
        with contextlib.suppress(ValueError):  # not importable, but edited
            data = bare_png(decode_png(data))  # as an imported mask is stored in the bucket
        if hashlib.sha256(data).hexdigest() not in known:
            edited.append(path)
    return edited


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of an export by name. Names become paths and ids become tar members, so both are validated.

    Raises:
        ArchiveError: the file was not written by an export.
    """
    path = folder / "manifest.jsonl"
    if not path.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines() if line]
        for row in rows:
            if not re.fullmatch(r"[0-9a-f]{8,64}", row["name"]):
                raise ValueError(f"{row['name']!r} is not a valid photo name")
            for request_id in row["request_ids"]:
                check_request_id(request_id)
        return {row["name"]: row for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"{path} is not a manifest of `humanseg archive export`: {error}") from error


def bare_png(mask: NDArray[np.uint8]) -> bytes:
    """Encode a mask, uint8 [H, W] 0/255, as the PNG stored in the bucket: one channel, no metadata."""
    out = io.BytesIO()
    Image.fromarray(mask).save(out, "PNG")
    return out.getvalue()


def upload(reader: Reader, labels: list[tuple[StoredLabel, bytes]], now: datetime) -> None:
    """Upload one segment and its table, like the uploader."""
    name = make_name(now, new_writer(), 1)
    data = bytearray()
    for label, mask in labels:
        names = (*label.parts(), JSON)
        data += b"".join(sample_blocks(label.request_id, now, names, (mask, label.to_json().encode())))
    key = segment_key(reader.labels.root, name)
    rows = [label_row(item, key) for item in scan(data, StoredLabel.from_json) if isinstance(item, Whole)]
    reader.store.put_new(key, data + END)
    reader.store.put_new(table_key(reader.labels.root, name), to_parquet(rows, LABELS))
