"""Exports the archive to a folder for `humanseg train`: filtered, deduplicated, resumable, in parallel.

    TO/img/NAME.jpg    TO/mask/NAME.png    TO/manifest.jsonl

NAME is a prefix of the photo's SHA-256, so a photo sent twice is one file, and repeating an export fetches only
missing files and newer masks. Files of an earlier export that this one does not select are deleted: the folder
contains exactly what the manifest lists. The manifest has one JSON object per line, with the request ids of each
photo, the split, and the source of its mask. Formats other than `folder` are created from these files at the end
(export_formats.py).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from botocore.exceptions import ClientError

from humanseg.archive.capture.record import extension_of, rfc3339
from humanseg.archive.capture.rewrite import rewrite_as_jpeg, rewrite_as_png
from humanseg.archive.errors import ArchiveError, NotStrippable
from humanseg.archive.read.export_formats import FORMATS, pack
from humanseg.archive.read.export_notes import NAME_LENGTH, photo_name, register
from humanseg.archive.read.labels import Label, edited_masks, read_labels
from humanseg.archive.read.reader import Damaged, Gone, Reader, cut, is_gone, parallel
from humanseg.common.files import write_whole

RUN_BYTES = 32 * 1024**2  # maximum size of one request
RUN_GAP = 1024**2  # maximum gap of unneeded bytes that it reads
RUNS_AT_A_TIME = 8
# Formats that cv2, the usual reader of training photos, opens and rotates upright automatically.
TRAINABLE = ("jpeg", "png", "webp", "bmp")
COLUMNS = [
    "request_id",
    "time",
    "model_name",
    "model_version",
    "weights_sha256",
    "photo_sha256",
    "photo_format",
    "width",
    "height",
    "photo_bytes",
    "mask_sha256",
    "mask_bytes",
    "coverage",
    "confidence",
    "sampling_reason",
    "sampling_probability",
    "label",
    "clip_id",
    "clip_seconds",
    "clip_sha256",
    "segment",
    "photo_offset",
    "mask_offset",
]


@dataclass(frozen=True)
class Entry:
    """One photo of the export: its record's row, and its correction, if any."""

    row: dict[str, Any]
    label: Label | None
    request_ids: list[str]

    @property
    def name(self) -> str:
        """The name of its files.

        Raises:
            ArchiveError: not a SHA-256. Only a valid hash may become a path, because others can write to the bucket.
        """
        digest = str(self.row["photo_sha256"])
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ArchiveError(
                f"record {self.row['request_id']!r} has the photo hash {digest[:80]!r}, which is not a SHA-256"
            )
        return photo_name(digest)

    @property
    def mask_sha256(self) -> str:
        """Of the mask that goes with the photo."""
        return self.label.mask_sha256 if self.label else str(self.row["mask_sha256"])


@dataclass(frozen=True)
class Exported:
    """The result of an export. `fetched` and `skipped` count photos; `skipped` were already there."""

    photos: int
    fetched: int
    skipped: int
    corrected: int
    train: int
    held_out: int
    problems: list[str]


@dataclass(frozen=True)
class _Place:
    """Output paths, and whether photos must be upright without EXIF."""

    photos: Path
    masks: Path
    upright: bool

    def photo(self, entry: Entry) -> Path:
        """The photo's path. Formats that training can't read are converted to PNG."""
        kept = self.as_sent(entry) or entry.row["photo_format"] == "jpeg"
        suffix = extension_of(entry.row["photo_format"]) if kept else "png"
        return self.photos / f"{entry.name}.{suffix}"

    def mask(self, entry: Entry) -> Path:
        """The mask's path."""
        return self.masks / f"{entry.name}.png"

    def as_sent(self, entry: Entry) -> bool:
        """Whether the photo's bytes stay as they are."""
        return entry.row["photo_format"] in TRAINABLE and not self.upright


def distinct_photos(table: pa.Table, labels: dict[str, Label], *, corrected_only: bool = False) -> list[Entry]:
    """One entry per distinct photo, by name; a corrected mask takes precedence, then the newest record."""
    if corrected_only:
        table = table.filter(pc.field("photo_sha256").isin(pa.array(list(labels), pa.string())))
    order = [("photo_sha256", "ascending"), ("time", "descending"), ("request_id", "descending")]
    table = table.sort_by(order)
    digests = table["photo_sha256"].to_pylist()
    firsts = [at for at, digest in enumerate(digests) if at == 0 or digest != digests[at - 1]]
    ids = table["request_id"].to_pylist()
    rows = table.take(pa.array(firsts, pa.int64())).to_pylist()
    ends = [*firsts[1:], len(digests)]
    return [
        Entry(row, labels.get(row["photo_sha256"]), ids[first:end])
        for row, first, end in zip(rows, firsts, ends, strict=True)
    ]


def export(
    reader: Reader,
    to: Path,
    *,
    since: datetime,
    until: datetime | None,
    now: datetime,
    fmt: str = "folder",
    corrected_only: bool = False,
    only: set[str] | None = None,
    chosen_as: Mapping[str, Mapping[str, Any]] | None = None,
    held_out_share: float = 0.1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Exports the committed records with since <= time < until to the folder `to`, readable by its owner only.

    `only` limits the export to these ids; None exports all. `chosen_as`: reason and probability of each chosen id,
    for the manifest. `held_out_share` is the share (0..1) of the "val" split, selected by the hash of the photo's
    bytes, or of the clip that it is a frame of, with the same rule as `humanseg train`, so that both agree and
    neither duplicates nor the frames of one clip are separated. `progress(done, total)` is called as photos are
    finished. Photos that are gone, damaged or can't be rewritten are listed in `problems` and skipped. Files of an
    earlier export into `to` that this one does not select are deleted. Raises
    ArchiveError, without any change, if `to` has corrected masks that were not imported into the archive yet.
    """
    if fmt not in FORMATS:
        raise ValueError(f"unknown format {fmt!r}; choose one of {', '.join(FORMATS)}")
    labels = read_labels(reader)
    if edited := edited_masks(to, labels):
        raise ArchiveError(
            f"{to} contains {len(edited)} corrected masks that the archive does not have, e.g. {edited[0].name}. "
            f"Import them with `humanseg archive import-labels {to} --by NAME`, delete them, or export to "
            "another folder"
        )
    where = None if only is None else pc.field("request_id").isin(pa.array(sorted(only), pa.string()))
    days = reader.records.days_rows(since, until, columns=COLUMNS, where=where)
    empty = pa.schema([reader.records.schema.field(name) for name in COLUMNS]).empty_table()
    entries = distinct_photos(pa.concat_tables([empty, *days]), labels, corrected_only=corrected_only)
    # before the first copy is written
    register(reader, to, fmt, [request_id for entry in entries for request_id in entry.request_ids], now)
    to.mkdir(parents=True, exist_ok=True)
    to.chmod(0o700)  # photos of people
    parts = to if fmt == "folder" else to / ".parts"
    # The usual readers of coco and webdataset ignore the EXIF orientation.
    place = _Place(
        parts / "img" if fmt in ("folder", "webdataset") else to / "img",
        parts / "mask",
        fmt in ("coco", "webdataset"),
    )
    for folder in (place.photos, place.masks):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _leave_only(folder, {entry.name for entry in entries})
    problems, fetched = _fetch(reader, entries, place, progress)
    why = chosen_as or {}
    rows = [
        {**_row(entry, place.photo(entry), held_out_share), "chosen": why.get(entry.request_ids[0])}
        for entry in entries
        if entry.name not in problems
    ]
    pack(fmt, to, parts, rows)
    write_whole(to / "manifest.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    held_out = sum(row["split"] == "val" for row in rows)
    corrected = sum(row["mask_source"] == "corrected" for row in rows)
    return Exported(
        photos=len(rows),
        fetched=fetched,
        skipped=len(rows) - fetched,
        corrected=corrected,
        train=len(rows) - held_out,
        held_out=held_out,
        problems=[f"{entry.request_ids[0]}: {problems[entry.name]}" for entry in entries if entry.name in problems],
    )


def _leave_only(folder: Path, names: set[str]) -> None:
    """Deletes files of an earlier export into the same folder that this one does not select.

    Training uses every file in the folder, so an erased photo or an uncorrected mask must not stay. Only files that
    an export can have written are deleted: their names are prefixes of a SHA-256.
    """
    for path in folder.iterdir():
        if path.stem not in names and re.fullmatch(rf"[0-9a-f]{{{NAME_LENGTH}}}", path.stem):
            path.unlink()


def is_held_out(digest: bytes, share: float) -> bool:
    """Whether a photo or clip with this SHA-256 is held out; the rule of humanseg/training/samples.py."""
    return int.from_bytes(digest[:8], "big") < share * 2**64


# ---------------------------------------------------------------------- fetching


def _fetch(
    reader: Reader, entries: list[Entry], place: _Place, progress: Callable[[int, int], None]
) -> tuple[dict[str, str], int]:
    """Fetches missing files. Returns problems by name, and the number of photos fetched."""
    missing = [entry for entry in entries if not _is_there(entry, place)]
    done = len(entries) - len(missing)
    problems: dict[str, str] = {}
    for results in parallel(lambda run: _fetch_run(reader, run, place), _runs(missing), RUNS_AT_A_TIME):
        problems |= {name: problem for name, problem in results.items() if problem}
        done += len(results)
        progress(done, len(entries))
    return problems, len(missing) - len(problems)


def _is_there(entry: Entry, place: _Place) -> bool:
    mask = place.mask(entry)
    return (  # the photo was written by rename, so it is complete
        place.photo(entry).is_file()
        and mask.is_file()
        and hashlib.sha256(mask.read_bytes()).hexdigest() == entry.mask_sha256
    )


def _runs(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Groups neighbouring records of one segment, to be read with one request."""
    run: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: (entry.row["segment"], entry.row["photo_offset"])):
        if run:
            first, last = run[0].row, run[-1].row
            gap = entry.row["photo_offset"] - _end(last)
            near = entry.row["segment"] == first["segment"] and gap <= RUN_GAP
            if not near or _end(entry.row) - first["photo_offset"] > RUN_BYTES:
                yield run
                run = []
        run.append(entry)
    if run:
        yield run


def _end(row: dict[str, Any]) -> int:
    return int(row["mask_offset"] + row["mask_bytes"])


def _fetch_run(reader: Reader, run: list[Entry], place: _Place) -> dict[str, str]:
    """Writes the files of a group; returns each one's problem, or ""."""
    start = run[0].row["photo_offset"]
    try:
        data: bytes | None = reader.get_range(run[0].row["segment"], start, _end(run[-1].row))
    except ClientError as error:
        if not is_gone(error):
            raise  # a problem of the store, not of these photos
        data = None
    return {entry.name: _write(reader, entry, data, start, place) for entry in run}


def _write(reader: Reader, entry: Entry, data: bytes | None, start: int, place: _Place) -> str:
    try:
        if data is None:
            photo, mask = reader.photo_and_mask(entry.row)
        else:
            photo, mask = cut(entry.row, data, start, "photo"), cut(entry.row, data, start, "mask")
        if entry.label:
            mask = _label_mask(reader, entry.label)
        if not place.as_sent(entry):
            jpeg = entry.row["photo_format"] == "jpeg"
            photo = rewrite_as_jpeg(photo) if jpeg else rewrite_as_png(photo)
    except (Gone, Damaged, NotStrippable) as error:
        return str(error)
    if not place.photo(entry).is_file():
        write_whole(place.photo(entry), photo)
    write_whole(place.mask(entry), mask)
    return ""


def _label_mask(reader: Reader, label: Label) -> bytes:
    try:
        data = reader.get_range(label.segment, label.mask_offset, label.mask_offset + label.mask_bytes)
    except ClientError as error:
        if is_gone(error):
            raise Gone("the corrected mask was moved meanwhile; run the export again") from error
        raise
    return cut({**vars(label)}, data, label.mask_offset, "mask")


def _row(entry: Entry, photo: Path, share: float) -> dict[str, Any]:
    record = entry.row
    clip = record["clip_sha256"]
    held_out = is_held_out(bytes.fromhex(clip) if clip else hashlib.sha256(photo.read_bytes()).digest(), share)
    return {
        "name": entry.name,
        "photo": photo.name,
        "photo_sha256": record["photo_sha256"],
        "photo_format": record["photo_format"],
        "mask_sha256": entry.mask_sha256,
        "mask_source": "corrected" if entry.label else "model",
        "corrected_by": entry.label.corrected_by if entry.label else None,
        "request_ids": entry.request_ids,
        "split": "val" if held_out else "train",
        "width": record["width"],
        "height": record["height"],
        "time": rfc3339(record["time"]),
        "model_name": record["model_name"],
        "model_version": record["model_version"],
        "weights_sha256": record["weights_sha256"],
        "coverage": record["coverage"],
        "confidence": record["confidence"],
        "sampling_reason": record["sampling_reason"],
        "sampling_probability": record["sampling_probability"],
        "label": record["label"],
        "clip_id": record["clip_id"],
        "clip_seconds": record["clip_seconds"],
        "clip_sha256": clip,
    }
