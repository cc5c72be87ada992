"""Corrected masks: what a person drew, kept beside the model's own guess, and put before it in every export.

They lie as records do, under labels/v2: one segment an import, with `ID.mask.png` (0/255) and `ID.json` (who, when,
for which photo), and its table. A later correction of the same photo wins over an earlier one; none is overwritten.
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

import pyarrow as pa
import pyarrow.compute as pc

from humanseg.archive.capture.names import make_name, new_writer, segment_key, table_key
from humanseg.archive.capture.record import JSON, check_request_id, sample_blocks
from humanseg.archive.capture.segment import Whole, scan
from humanseg.archive.capture.tar import END
from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.reader import Reader
from humanseg.archive.ship.table import LABELS, StoredLabel, label_row, to_parquet


@dataclass(frozen=True)
class Label:
    """The winning correction of a photo, and where its mask lies."""

    mask_sha256: str
    corrected_by: str
    segment: str
    mask_offset: int
    mask_bytes: int


@dataclass(frozen=True)
class Imported:
    """What became of the masks of a folder. `problems` has one line for each that was refused."""

    uploaded: list[str]
    unchanged: list[str]
    problems: list[str]


def read_labels(reader: Reader) -> dict[str, Label]:
    """The winning correction of each photo, by the photo's SHA-256: the latest one."""
    tables = list(reader.labels.days_rows())
    rows = pa.concat_tables([LABELS.empty_table(), *tables])
    order = [("time", "ascending"), ("segment", "ascending"), ("request_id", "ascending")]
    return {
        row["photo_sha256"]: Label(
            row["mask_sha256"], row["corrected_by"], row["segment"], row["mask_offset"], row["mask_bytes"]
        )
        for row in rows.sort_by(order).to_pylist()
    }


def import_labels(
    reader: Reader, folder: Path, *, by: str, now: datetime, accept_unchanged: bool = False
) -> Imported:
    """Uploads the corrected masks of `folder`, an edited export (`mask/NAME.png`) or loose ID.png files.

    A mask that is what the export put there is no correction, unless `accept_unchanged`: then it says that a
    person looked and agreed. Every mask is checked (binary, the size of its photo) before any is uploaded.
    """
    manifest = _manifest(folder)
    masks = sorted((folder / "mask" if (folder / "mask").is_dir() else folder).glob("*.png"))
    if not masks:
        raise ArchiveError(f"{folder} holds no masks; expected mask/NAME.png of an export, or REQUEST_ID.png")
    result = Imported([], [], [])
    wanted: list[tuple[Path, bytes, str]] = []
    for path in masks:
        row = manifest.get(path.stem)
        data = path.read_bytes()
        if row and row["mask_sha256"] == hashlib.sha256(data).hexdigest() and not accept_unchanged:
            result.unchanged.append(path.stem)
            continue
        try:
            wanted.append((path, data, row["request_ids"][0] if row else check_request_id(path.stem)))
        except ValueError as error:
            result.problems.append(f"{path}: {error}")
    found = _records(reader, [request_id for _, _, request_id in wanted])
    labels: list[tuple[StoredLabel, bytes]] = []
    for path, data, request_id in wanted:
        about = found.get(request_id)
        if about is None:
            result.problems.append(f"{path}: no record {request_id} is in the archive")
            continue
        try:
            bare = _binary_png(data, about["width"], about["height"])
        except ValueError as error:
            result.problems.append(f"{path}: {error}")
            continue
        digest = hashlib.sha256(bare).hexdigest()
        label = StoredLabel(request_id, now, about["photo_sha256"], digest, len(bare), by)
        labels.append((label, bare))
    if labels and not result.problems:
        _upload(reader, labels, now)
        result.uploaded.extend(label.request_id for label, _ in labels)
    return result


def edited_masks(folder: Path, labels: dict[str, Label]) -> list[Path]:
    """Masks of an export that were changed by hand since, and are not (or not so) among the archive's `labels`."""
    edited = []
    for name, row in _manifest(folder).items():
        path = folder / "mask" / f"{name}.png"
        data = path.read_bytes() if path.is_file() else b""
        label = labels.get(row["photo_sha256"])
        known = {row["mask_sha256"], label.mask_sha256 if label else ""}
        if not data or hashlib.sha256(data).hexdigest() in known:
            continue
        with contextlib.suppress(ValueError):  # not fit to be imported, but somebody's work
            data = _binary_png(data, row["width"], row["height"])  # as an imported one lies in the bucket
        if hashlib.sha256(data).hexdigest() not in known:
            edited.append(path)
    return edited


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of an export by name. Names become paths and ids become members, so both are checked.

    Raises:
        ArchiveError: the file is none that an export wrote.
    """
    path = folder / "manifest.jsonl"
    if not path.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines() if line]
        for row in rows:
            if not re.fullmatch(r"[0-9a-f]{8,64}", row["name"]):
                raise ValueError(f"{row['name']!r} is no name of a photo")
            for request_id in row["request_ids"]:
                check_request_id(request_id)
        return {row["name"]: row for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"{path} is not as `humanseg archive export` wrote it: {error}") from error


def _records(reader: Reader, request_ids: list[str]) -> dict[str, dict[str, Any]]:
    """Size and photo of the records of these ids, as far as they are in the archive."""
    columns = ["request_id", "photo_sha256", "width", "height"]
    where = pc.field("request_id").isin(pa.array(request_ids, pa.string()))
    return {
        row["request_id"]: row
        for table in reader.records.days_rows(columns=columns, where=where)
        for row in table.to_pylist()
    }


def _binary_png(data: bytes, width: int, height: int) -> bytes:
    """The mask as a bare one-channel 0/255 PNG; 1 counts as person, too. ValueError when it is none."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("L") if image.mode not in ("1", "P") else image)  # [H, W]
    except Exception as error:
        raise ValueError(f"can't be read as a picture ({error})") from None
    if pixels.shape != (height, width):
        raise ValueError(f"is {pixels.shape[1]}x{pixels.shape[0]}, its photo {width}x{height}")
    values = set(np.unique(pixels).tolist())
    if not (values <= {0, 255} or values <= {0, 1} or values <= {False, True}):
        raise ValueError(f"is not binary: it has {len(values)} values; save it with 0 and 255 only")
    out = io.BytesIO()
    Image.fromarray(np.where(pixels > 0, 255, 0).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def _upload(reader: Reader, labels: list[tuple[StoredLabel, bytes]], now: datetime) -> None:
    """One segment and its table, put as an uploader puts them."""
    name = make_name(now, new_writer(), 1)
    data = bytearray()
    for label, mask in labels:
        names = (*label.parts(), JSON)
        data += b"".join(sample_blocks(label.request_id, now, names, (mask, label.to_json().encode())))
    key = segment_key(reader.labels.root, name)
    rows = [label_row(one, key) for one in scan(data, StoredLabel.from_json) if isinstance(one, Whole)]
    reader.store.put_new(key, data + END)
    reader.store.put_new(table_key(reader.labels.root, name), to_parquet(rows, LABELS))
