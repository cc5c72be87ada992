"""Selects the reader of a label file or folder."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from humanseg.labels.coco import is_coco, read_coco
from humanseg.labels.drawn import LabelError, Options, PhotoRef, Reading, Refusal
from humanseg.labels.label_studio import is_label_studio, read_label_studio, task_photos
from humanseg.labels.png import read_pngs

OURS = {"manifest.jsonl", "tasks.json", "instances.json"}  # files of an export, not labels
UNPACKED = 4_000_000_000  # bytes; a zip may expand a lot


def read_labels_file(path: Path, options: Options | None = None) -> Reading:
    """Read all masks of a JSON file, a PNG, a folder of them, or a tool's zip.

    A folder with `mask/` is an export: its masks are read from there. Raises LabelError if there are no labels.
    """
    options = options or Options()
    if not path.exists():
        raise LabelError(f"{path}: no such file or folder")
    if path.is_file() and zipfile.is_zipfile(path):
        with TemporaryDirectory(prefix="labels-") as scratch, zipfile.ZipFile(path) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > UNPACKED:
                raise LabelError(f"{path}: contains more than {UNPACKED // 10**9} GB")
            packed.extractall(scratch)
            return read_labels_file(Path(scratch), options)
    if path.is_dir():
        reading = _folder(path, options)
    elif path.suffix.lower() == ".json":
        reading = _json(path, options)
    elif path.suffix.lower() == ".png":
        reading = read_pngs([path], {}, options)
    else:
        raise LabelError(f"{path}: not a folder, zip, .json or .png")
    if not (reading.masks or reading.refused or reading.skipped):
        raise LabelError(f"{path} contains no labels: expected a JSON of Label Studio or COCO, or PNG masks")
    return reading


def _folder(folder: Path, options: Options) -> Reading:
    reading = Reading()
    tasks: dict[str, PhotoRef] = {}
    for path in sorted(folder.rglob("*.json")):
        if path.name in OURS:
            continue
        content = _load(path)
        if is_label_studio(content):
            tasks.update(task_photos(content))
    masks = folder / "mask" if (folder / "mask").is_dir() else folder
    pngs = sorted(masks.rglob("*.png"))
    if pngs:  # the JSON beside them maps each to its photo
        reading.add(read_pngs(pngs, tasks, options))
        return reading
    for path in sorted(folder.rglob("*.json")):
        if path.name not in OURS:
            reading.add(_json(path, options))
    return reading


def _json(path: Path, options: Options) -> Reading:
    content = _load(path)
    if is_coco(content):
        return read_coco(path.name, content, options)
    if is_label_studio(content):
        return read_label_studio(path.name, content, options)
    return Reading(refused=[Refusal(str(path), "neither Label Studio's JSON nor COCO's")])


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def by_photo(reading: Reading) -> Iterator[tuple[PhotoRef, list[Any]]]:
    """The masks grouped by photo, in the order of the files."""
    grouped: dict[tuple[str | None, str | None, str], list[Any]] = {}
    for mask in reading.masks:
        key = (mask.photo.request_id, mask.photo.sha256, mask.photo.file)
        grouped.setdefault(key, []).append(mask)
    for group in grouped.values():
        yield group[0].photo, group
