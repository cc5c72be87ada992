"""From the archive to a folder that `humanseg train` takes: chosen, each photo once, resumable, in parallel.

    TO/img/NAME.jpg    TO/mask/NAME.png    TO/manifest.jsonl

NAME is the start of the photo's SHA-256, so a photo sent twice is one file, and running the same export again
fetches only what is missing or has a newer mask. What an earlier export left there and this one does not
choose is deleted: the folder holds what the manifest says. The manifest has one JSON object a line, with the
request ids behind each photo, the split, and where its mask comes from. Formats other than `folder` are
made from these files at the end (export_formats.py).
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import socket
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError, FlexibleChecksumError

from humanseg.archive.capture.record import rfc3339
from humanseg.archive.capture.rewrite import rewrite_as_jpeg, rewrite_as_png
from humanseg.archive.errors import ArchiveError, Unscrubbable
from humanseg.archive.read.export_formats import FORMATS, pack
from humanseg.archive.read.labels import Label, edited_masks, read_labels
from humanseg.archive.read.reader import Reader, Stored, parallel
from humanseg.common.files import write_whole

NAME_LENGTH = 20
GONE = ("NoSuchKey", "404")
# What cv2, the usual reader of training photos, opens and turns upright by itself.
TRAINABLE = ("jpeg", "png", "webp", "bmp")


@dataclass(frozen=True)
class Choice:
    """One photo of the export: the record whose photo is fetched, and the mask that goes with it."""

    name: str
    photo_key: str
    photo_file: str
    photo_sha256: str
    photo_format: str
    mask_key: str
    mask_sha256: str
    mask_source: str  # "corrected" or "model"
    corrected_by: str | None
    request_ids: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """What an export did. `fetched` and `skipped` count photos; `skipped` were there already."""

    photos: int
    fetched: int
    skipped: int
    corrected: int
    train: int
    held_out: int
    problems: list[str]


def choose(records: Iterable[Stored], labels: dict[str, Label], *, corrected_only: bool = False) -> list[Choice]:
    """One choice for each different photo, by name; a corrected mask wins, then the newest record's."""
    by_photo: dict[str, list[Stored]] = {}
    for stored in records:
        by_photo.setdefault(stored.about["photo"]["sha256"], []).append(stored)
    chosen = []
    for digest, group in by_photo.items():
        label = labels.get(digest)
        if corrected_only and label is None:
            continue
        group.sort(key=lambda stored: (stored.about["time"], stored.request_id))
        newest = group[-1]
        chosen.append(
            Choice(
                name=digest[:NAME_LENGTH],
                photo_key=newest.photo_key,
                photo_file=newest.about["photo"]["file"],
                photo_sha256=digest,
                photo_format=newest.about["photo"]["format"],
                mask_key=label.key if label else newest.mask_key,
                mask_sha256=label.mask_sha256 if label else newest.about["mask"]["sha256"],
                mask_source="corrected" if label else "model",
                corrected_by=label.by if label else None,
                request_ids=[stored.request_id for stored in group[::-1]],
                about=newest.about,
            )
        )
    return sorted(chosen, key=lambda choice: choice.name)


def export(
    reader: Reader,
    to: Path,
    *,
    since: datetime,
    until: datetime | None,
    now: datetime,
    fmt: str = "folder",
    corrected_only: bool = False,
    held_out_share: float = 0.1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Exports the committed records with since <= time < until to the folder `to`.

    `held_out_share` is the part (0..1) marked "val" by the hash of the photo's bytes, with the same rule as
    `humanseg train`, so that the two agree and duplicates never part. `progress(done, total)` is called as
    photos are done. Photos that are gone, damaged or can't be rewritten are named in `problems` and left out.
    Files of an earlier export into `to` that this one does not choose are deleted; raises ArchiveError before
    anything is touched when somebody corrected masks there that the archive does not have yet.
    """
    if fmt not in FORMATS:
        raise ValueError(f"format {fmt!r} is not known; it is one of {', '.join(FORMATS)}")
    labels = read_labels(reader)
    if edited := edited_masks(to, labels):
        raise ArchiveError(
            f"{to} holds {len(edited)} corrected masks that the archive does not have, {edited[0].name} first. "
            f"Bring them in with `humanseg archive import-labels {to} --by NAME`, delete them, or export to "
            "another folder"
        )
    chosen = choose(reader.records(since, until), labels, corrected_only=corrected_only)
    _register(reader, to, fmt, chosen, now)  # before the first copy is made
    parts = to if fmt == "folder" else to / ".parts"
    photos = parts / "img" if fmt in ("folder", "webdataset") else to / "img"
    to.mkdir(mode=0o700, parents=True, exist_ok=True)  # people's photos: for nobody else on this machine
    for folder in (photos, parts / "mask"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _leave_only(folder, {choice.name for choice in chosen})
    upright = fmt in ("coco", "webdataset")  # their usual readers leave the EXIF orientation alone

    def fetch(choice: Choice) -> tuple[Choice, Path | None, bool, str]:
        try:
            photo, new = _fetch_photo(reader, choice, photos, upright)
            new |= _fetch_mask(reader, choice, parts / "mask" / f"{choice.name}.png")
        except (ValueError, Unscrubbable) as error:
            return choice, None, False, str(error)
        except FlexibleChecksumError as error:
            return choice, None, False, f"damaged in the bucket: {error}"
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in GONE:
                raise  # the store is away or says no: nothing about this photo
            return choice, None, False, "an object is gone; was it erased meanwhile?"
        return choice, photo, new, ""

    rows, problems, fetched = [], [], 0
    for number, (choice, photo, new, problem) in enumerate(parallel(fetch, chosen), 1):
        progress(number, len(chosen))
        if photo is None:
            problems.append(f"{choice.request_ids[0]}: {problem}")
            continue
        fetched += new
        rows.append(_row(choice, photo, held_out_share))
    pack(fmt, to, parts, rows)
    write_whole(to / "manifest.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    held_out = sum(row["split"] == "val" for row in rows)
    corrected = sum(row["mask_source"] == "corrected" for row in rows)
    return Exported(len(rows), fetched, len(rows) - fetched, corrected, len(rows) - held_out, held_out, problems)


def _leave_only(folder: Path, names: set[str]) -> None:
    """Deletes what an earlier export into the same folder left and this one does not choose.

    Training takes every file that it finds: an erased photo, or a mask that nobody corrected, must not stay.
    Only files that an export can have written go: a name is the beginning of a SHA-256.
    """
    for path in folder.iterdir():
        if path.stem not in names and re.fullmatch(rf"[0-9a-f]{{{NAME_LENGTH}}}", path.stem):
            path.unlink()


def is_held_out(digest: bytes, share: float) -> bool:
    """Whether a photo with this SHA-256 belongs to the held-out part; the rule of humanseg/training/samples.py."""
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _fetch_photo(reader: Reader, choice: Choice, folder: Path, upright: bool) -> tuple[Path, bool]:
    """The photo's path and whether it had to be fetched. Formats that training can't read become PNG."""
    as_sent = choice.photo_format in TRAINABLE and not upright
    as_jpeg = choice.photo_format == "jpeg"
    path = folder / (choice.name + (Path(choice.photo_file).suffix if as_sent or as_jpeg else ".png"))
    if path.is_file():  # written by rename, so it is whole
        return path, False
    data = reader.get(choice.photo_key)
    if hashlib.sha256(data).hexdigest() != choice.photo_sha256:
        raise ValueError(f"the photo {choice.photo_key} does not have the SHA-256 of its record")
    if not as_sent:
        data = rewrite_as_jpeg(data) if as_jpeg else rewrite_as_png(data)
    write_whole(path, data)
    return path, True


def _fetch_mask(reader: Reader, choice: Choice, path: Path) -> bool:
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == choice.mask_sha256:
        return False
    data = reader.get(choice.mask_key)
    if hashlib.sha256(data).hexdigest() != choice.mask_sha256:
        raise ValueError(f"the mask {choice.mask_key} does not have the SHA-256 of its record")
    write_whole(path, data)
    return True


def _row(choice: Choice, photo: Path, share: float) -> dict[str, Any]:
    held_out = is_held_out(hashlib.sha256(photo.read_bytes()).digest(), share)
    row = asdict(choice)
    about = row.pop("about")
    for name in ("photo_key", "mask_key", "photo_file"):
        del row[name]
    return {
        **row,
        "photo": photo.name,
        "split": "val" if held_out else "train",
        "width": about["photo"]["width"],
        "height": about["photo"]["height"],
        "time": about["time"],
        "model": about["model"],
        "coverage": about["coverage"],
        "confidence": about["confidence"],
        "sampling": about["sampling"],
        "label": about["label"],
    }


def _register(reader: Reader, to: Path, fmt: str, chosen: list[Choice], now: datetime) -> None:
    """Leaves a note of this export in the bucket, so that `erase` can say who holds a copy."""
    note = {
        "time": rfc3339(now),
        "by": getpass.getuser() if "USER" in os.environ else str(os.getuid()),
        "host": socket.gethostname(),
        "folder": str(to.resolve()),
        "format": fmt,
        "request_ids": sorted(one for choice in chosen for one in choice.request_ids),
    }
    key = f"{reader.store.target.prefix}/exports/v1/{rfc3339(now)[:10]}-{uuid.uuid4().hex}.json"
    reader.put(key, json.dumps(note).encode())
