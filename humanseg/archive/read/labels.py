"""Corrected masks: what a person drew, kept beside the model's own guess, and put before it in every export.

    PREFIX/labels/v1/REQUEST_ID/STAMP-SHA8/mask.png      the corrected mask, 0/255
    PREFIX/labels/v1/REQUEST_ID/STAMP-SHA8/label.json    who, when, for which photo; the commit mark

A later correction of the same photo wins over an earlier one; none is ever overwritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from humanseg.archive.capture.record import check_request_id, rfc3339
from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.reader import Folder, Reader, parallel

LABEL = "label.json"


@dataclass(frozen=True)
class Label:
    """One committed correction. Sorting by (time, key) puts the one that wins last."""

    time: str
    key: str
    request_id: str
    photo_sha256: str
    mask_sha256: str
    by: str


@dataclass(frozen=True)
class Imported:
    """What became of the masks of a folder. `problems` has one line for each that was refused."""

    uploaded: list[str]
    unchanged: list[str]
    problems: list[str]


def read_labels(reader: Reader) -> dict[str, Label]:
    """The winning correction of each photo, by the photo's SHA-256."""
    root = f"{reader.store.target.prefix}/labels/v1/"

    def read(folder: Folder) -> Label:
        about = json.loads(reader.get(f"{folder.key}/{LABEL}"))
        return Label(
            about["time"],
            f"{folder.key}/mask.png",
            about["request_id"],
            about["photo_sha256"],
            about["mask_sha256"],
            about["by"],
        )

    committed = (folder for folder in reader.folders_in(root) if LABEL in folder.sizes)
    winners: dict[str, Label] = {}
    for label in sorted(parallel(read, committed), key=lambda label: (label.time, label.key)):
        winners[label.photo_sha256] = label
    return winners


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
    checked: list[tuple[str, str, bytes]] = []
    for path in masks:
        row = manifest.get(path.stem)
        data = path.read_bytes()
        if row and row["mask_sha256"] == hashlib.sha256(data).hexdigest() and not accept_unchanged:
            result.unchanged.append(path.stem)
            continue
        try:
            request_id = row["request_ids"][0] if row else check_request_id(path.stem)
            about = _about(reader, request_id)
            bare = _binary_png(data, about["photo"]["width"], about["photo"]["height"])
        except (ValueError, ArchiveError) as error:
            result.problems.append(f"{path}: {error}")
            continue
        checked.append((request_id, about["photo"]["sha256"], bare))
    if result.problems:
        return result
    for request_id, photo_sha256, data in checked:
        _upload(reader, request_id, photo_sha256, data, by, now)
        result.uploaded.append(request_id)
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
    path = folder / "manifest.jsonl"
    if not path.is_file():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines() if line]
    return {row["name"]: row for row in rows}


def _about(reader: Reader, request_id: str) -> dict[str, Any]:
    found = reader.find(request_id)
    if found is None or not found.committed:
        raise ArchiveError(f"no record {request_id} is in the archive")
    return reader.open(found).about


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


def _upload(reader: Reader, request_id: str, photo: str, mask: bytes, by: str, now: datetime) -> None:
    digest = hashlib.sha256(mask).hexdigest()
    stamp = rfc3339(now).replace(":", "").replace("-", "")
    folder = f"{reader.store.target.prefix}/labels/v1/{request_id}/{stamp}-{digest[:8]}"
    about = {
        "schema_version": 1,
        "request_id": request_id,
        "photo_sha256": photo,
        "mask_sha256": digest,
        "by": by,
        "time": rfc3339(now),
    }
    reader.put(f"{folder}/mask.png", mask)
    reader.put(f"{folder}/{LABEL}", json.dumps(about, indent=1).encode())
