"""Imports masks from annotation tools into the archive: all of a file, or nothing.

Each mask is matched to its photo by the request id or the content hash from the export, else by its file name (an
export's own, or a request id). A mask without a photo, or of another size, is a problem. If there is any problem,
nothing is uploaded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.export_notes import NAME_LENGTH
from humanseg.archive.read.labels import bare_png, read_manifest, upload
from humanseg.archive.read.reader import Reader
from humanseg.archive.ship.table import StoredLabel
from humanseg.labels.drawn import DrawnMask, LabelError, Options, PhotoRef
from humanseg.labels.home import by_photo, read_labels_file
from humanseg.labels.settle import LEAST_AGREEMENT, settle

COLUMNS = ["request_id", "time", "photo_sha256", "width", "height"]
Row = dict[str, Any]


@dataclass
class Imported:
    """The result of an import. `problems` has one line per rejected mask; if there are any, nothing was uploaded.

    skipped: rows without a label (cancelled, empty), with the reason.
    """

    uploaded: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def import_labels(
    reader: Reader,
    source: Path,
    *,
    by: str,
    now: datetime,
    accept_unchanged: bool = False,
    options: Options | None = None,
    least_agreement: float = LEAST_AGREEMENT,
) -> Imported:
    """Upload the masks in `source`: an edited export, PNGs, Label Studio's JSON, a COCO JSON, or a zip of them.

    A PNG identical to the exported one is not a correction, unless `accept_unchanged`: then a person has confirmed
    it. `by` is the annotator if the tool does not record one. Raises ArchiveError if there are no labels.
    """
    manifest = read_manifest(source) if source.is_dir() else {}
    try:
        reading = read_labels_file(source, options)
    except LabelError as error:
        raise ArchiveError(str(error)) from error
    result = Imported(
        skipped=[f"{item.source}: {item.reason}" for item in reading.skipped],
        problems=[str(item) for item in reading.refused],
    )
    groups = []
    for photo, masks in by_photo(reading):
        row = manifest.get(photo.stem)
        if row and not accept_unchanged and _is_unchanged(masks, row["mask_sha256"]):
            result.unchanged.append(photo.stem)
        else:
            groups.append((PhotoRef(photo.file, row["request_ids"][0]) if row else photo, masks))
    records = _records(reader, [photo for photo, _ in groups])
    drawn: dict[str, tuple[Row, list[DrawnMask]]] = {}
    for photo, masks in groups:
        row = next((records[key] for key in _keys(photo) if key in records), None)
        if row is None:
            result.problems.append(f"{masks[0].source}: the archive has no record of {photo}")
        else:  # two names of the same photo
            drawn.setdefault(row["photo_sha256"], (row, []))[1].extend(masks)
    labels: list[tuple[StoredLabel, bytes]] = []
    for row, masks in drawn.values():
        try:
            mask, who, _ = settle(masks, least_agreement)
            size = row["height"], row["width"]
            if mask is None:
                mask = np.zeros(size, np.uint8)
            if mask.shape != size:
                raise LabelError(f"is {mask.shape[1]}x{mask.shape[0]}, its photo {size[1]}x{size[0]}")
        except LabelError as error:
            result.problems.append(f"{masks[0].source}: {error}")
            continue
        data = bare_png(mask)
        digest = hashlib.sha256(data).hexdigest()
        labels.append((StoredLabel(row["request_id"], now, row["photo_sha256"], digest, len(data), who or by), data))
    if labels and not result.problems:
        upload(reader, labels, now)
        result.uploaded += [label.request_id for label, _ in labels]
    return result


def _is_unchanged(masks: list[DrawnMask], sha256: str) -> bool:
    path = Path(masks[0].source)
    return len(masks) == 1 and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _keys(photo: PhotoRef) -> list[str]:
    """The keys to find a photo, most reliable first: an id, its hash, or either one as its file name."""
    digest = (photo.sha256 or "")[:NAME_LENGTH]
    return [key for key in (photo.request_id, digest, photo.stem) if key]


def _records(reader: Reader, photos: list[PhotoRef]) -> dict[str, Row]:
    """The newest record of each of these photos, by its id and by a prefix of its photo's hash."""
    keys = pa.array(sorted({key for photo in photos for key in _keys(photo)}), pa.string())
    if not len(keys):
        return {}
    name = pc.utf8_slice_codeunits(pc.field("photo_sha256"), 0, NAME_LENGTH)
    rows: dict[str, Row] = {}
    for table in reader.records.days_rows(columns=COLUMNS, where=pc.field("request_id").isin(keys) | name.isin(keys)):
        for row in table.sort_by("time").to_pylist():
            rows[row["request_id"]] = rows[row["photo_sha256"][:NAME_LENGTH]] = row
    return rows
